/** What people are told: empty, loading, wrong; always with what they can do. */

import type { ComponentChildren } from "preact";
import type { Problem } from "../api";
import { Icon } from "./icons";

export function Notice({ kind, children }: { kind: "warn" | "bad" | "plain"; children: ComponentChildren }) {
  return (
    <div class={`notice ${kind}`} role={kind === "bad" ? "alert" : undefined}>
      {kind !== "plain" && <Icon name="warn" />}
      <div>{children}</div>
    </div>
  );
}

const ADVICE: Record<number, string> = {
  0: "Check that the server runs, then try again.",
  403: "Your token does not allow this. Ask whoever runs the server for another role.",
  404: "It may have been removed, or the address is of another gallery.",
  409: "The gallery has changed meanwhile. Try again.",
  413: "The file is larger than the server takes.",
  429: "The server is busy with your earlier requests. Wait a moment, then try again.",
  503: "The server is busy or starting. Wait a moment, then try again.",
};

/** What another try would not change. */
const FINAL = new Set([400, 403, 404, 413, 422]);

export function ProblemNotice({ problem, onRetry, advice }: { problem: Problem; onRetry?: () => void; advice?: string }) {
  return (
    <Notice kind="bad">
      <p>
        <strong>{problem.title}</strong>
      </p>
      {problem.detail && problem.detail !== problem.title && <p>{problem.detail}</p>}
      {(advice ?? ADVICE[problem.status]) && <p class="quiet">{advice ?? ADVICE[problem.status]}</p>}
      {onRetry && !FINAL.has(problem.status) && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </Notice>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="title">{title}</p>
      {children}
    </div>
  );
}

/** Something is on its way; said once to screen readers. */
export function Waiting({ text }: { text: string }) {
  return (
    <p class="waiting" role="status">
      <span class="spinner" aria-hidden="true" />
      {text}
    </p>
  );
}
