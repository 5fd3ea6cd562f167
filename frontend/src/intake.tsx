/** Images from outside: dropped, pasted or chosen anywhere, sent to the server, and searched with. */

import { createContext, type ComponentChildren } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { problemFrom, useSurroundings } from "./hooks";
import { go, useRoute } from "./navigation";
import { Icon } from "./parts/icons";
import { ProblemNotice, Waiting } from "./parts/notice";
import { fromUploads, USUAL, withUploads, type UploadRef } from "./state/asked";
import { counted, fileSize } from "./words";

const MOST = 16;
const READABLE = "Choose a DICOM file, a picture (PNG, JPEG, TIFF) or a volume (NIfTI, NRRD).";

interface Intake {
  /** Lets a file be chosen. `add`: for the query that is there. */
  choose: (add?: boolean) => void;
}
const IntakeContext = createContext<Intake>({ choose: () => undefined });
export const useIntake = () => useContext(IntakeContext);

type State = { kind: "rest" } | { kind: "busy"; text: string } | { kind: "failed"; problem: api.Problem };

export function IntakeProvider({ children }: { children: ComponentChildren }) {
  const { gallery } = useSurroundings();
  const route = useRoute();
  const [state, setState] = useState<State>({ kind: "rest" });
  const [over, setOver] = useState<"no" | "new" | "add">("no");
  const field = useRef<HTMLInputElement>(null);
  const adding = useRef(false);
  const running = useRef<AbortController | null>(null);
  const asked = route.page === "search" ? route.asked : null;

  async function take(files: File[], add: boolean) {
    if (!files.length) return;
    running.current?.abort();
    const abort = (running.current = new AbortController());
    try {
      checkFiles(files, gallery.limits.upload_bytes);
      const uploads: UploadRef[] = [];
      for (const [i, file] of files.entries()) {
        setState({ kind: "busy", text: files.length > 1 ? `Reading image ${i + 1} of ${files.length}` : "Reading the image" });
        const told = await api.upload(file, plainName(file), abort.signal);
        uploads.push({ upload: told.upload, frame: null });
      }
      setState({ kind: "rest" });
      const before = asked ?? USUAL;
      go({ page: "search", asked: add && asked ? withUploads(before, uploads) : fromUploads(before, uploads), open: null });
    } catch (error) {
      if (!abort.signal.aborted) setState({ kind: "failed", problem: problemFrom(error) });
    }
  }
  const latest = useRef(take);
  latest.current = take;

  useEffect(() => {
    const paste = (event: ClipboardEvent) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      void latest.current(files, false);
    };
    document.addEventListener("paste", paste);
    return () => document.removeEventListener("paste", paste);
  }, []);

  useEffect(() => {
    const zoneOf = (event: DragEvent) => ((event.target as Element).closest?.("[data-zone=add]") ? "add" : "new");
    const drag = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "copy";
      setOver(zoneOf(event));
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver("no");
    };
    const drop = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver("no");
      void latest.current([...event.dataTransfer.files], zoneOf(event) === "add");
    };
    const events = { dragenter: drag, dragover: drag, dragleave: leave, drop };
    for (const [name, listener] of Object.entries(events)) document.addEventListener(name, listener as EventListener);
    return () => {
      for (const [name, listener] of Object.entries(events)) document.removeEventListener(name, listener as EventListener);
    };
  }, []);

  const intake: Intake = {
    choose: (add = false) => {
      adding.current = add;
      field.current?.click();
    },
  };
  return (
    <IntakeContext.Provider value={intake}>
      {children}
      <input
        ref={field}
        type="file"
        hidden
        aria-label="Image file to search with"
        multiple
        onChange={(event) => {
          const input = event.currentTarget;
          void take([...(input.files ?? [])], adding.current);
          input.value = "";
        }}
      />
      {over !== "no" && <DropZones over={over} canAdd={asked !== null} />}
      {state.kind === "busy" && (
        <div class="toast">
          <Waiting text={state.text} />
          <button
            type="button"
            onClick={() => {
              running.current?.abort();
              setState({ kind: "rest" });
            }}
          >
            Cancel
          </button>
        </div>
      )}
      {state.kind === "failed" && (
        <div class="toast">
          <ProblemNotice problem={state.problem} {...(state.problem.status === 422 && { advice: READABLE })} />
          <button type="button" class="bare" aria-label="Dismiss" onClick={() => setState({ kind: "rest" })}>
            <Icon name="close" />
          </button>
        </div>
      )}
    </IntakeContext.Provider>
  );
}

function DropZones({ over, canAdd }: { over: "new" | "add"; canAdd: boolean }) {
  return (
    <div class="dropzones" aria-hidden="true">
      <div data-zone="new" class={over === "new" ? "on" : undefined}>
        <Icon name="similar" /> Find similar images
      </div>
      {canAdd && (
        <div data-zone="add" class={over === "add" ? "on" : undefined}>
          <Icon name="add" /> Add to the query
        </div>
      )}
    </div>
  );
}

function checkFiles(files: File[], mostBytes: number): void {
  if (files.length > MOST) {
    throw new api.Problem(0, "Too many files", `A query has at most ${counted(MOST, "image")}; there were ${files.length}.`);
  }
  if (files.some((file) => file.size > mostBytes)) {
    throw new api.Problem(413, "Too large", `A file may have ${fileSize(mostBytes)} at most here.`);
  }
}

/** The name goes no further than its kind: names of files may be names of patients. */
function plainName(file: File): string {
  const suffix = /\.[A-Za-z0-9]{1,4}(\.gz)?$/.exec(file.name);
  return "image" + (suffix ? suffix[0].toLowerCase() : "");
}
