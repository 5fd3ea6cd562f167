/** A dialog over the page: it takes the focus and gives it back, and Esc closes it. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "./icons";

export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const closing = useRef(onClose);
  closing.current = onClose;
  useLayoutEffect(() => {
    const element = dialog.current;
    if (!element) return;
    const close = () => closing.current();
    element.addEventListener("close", close);
    element.showModal();
    return () => {
      element.removeEventListener("close", close);
      element.close();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class="panel"
      aria-labelledby="dialog-title"
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      <header>
        <h2 id="dialog-title">{title}</h2>
        <button type="button" class="bare" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      <div class="body">{children}</div>
    </dialog>
  );
}
