/** Index runs and changes of encoder: start one, watch it, stop it. */

import { useEffect, useState } from "preact/hooks";
import * as api from "../api";
import { forgetAnswers, problemFrom, useLoad, useSurroundings, useTitle } from "../hooks";
import { go, Link } from "../navigation";
import { Select } from "../parts/controls";
import { Icon } from "../parts/icons";
import { Empty, ProblemNotice, Waiting } from "../parts/notice";
import { counted, duration, outcomeName, whole } from "../words";

export function JobsPage({ root, folder, onGalleryChanged }: { root: string | null; folder: string; onGalleryChanged: () => void }) {
  const { session } = useSurroundings();
  const jobs = useLoad("jobs", api.jobs);
  useTitle("Jobs");
  return (
    <section class="page jobs" aria-labelledby="jobs-title">
      <header class="results">
        <h1 id="jobs-title">Jobs</h1>
        <p class="quiet">Images are added while searches go on.</p>
      </header>
      {session.role === "reader" ? (
        <p class="quiet">Your token reads; to index folders another role is needed.</p>
      ) : (
        <div class="starters">
          <IndexForm root={root} folder={folder} onStarted={jobs.reload} />
          {session.role === "admin" && <ReindexForm onStarted={jobs.reload} />}
        </div>
      )}
      <h2>Runs</h2>
      {jobs.problem && <ProblemNotice problem={jobs.problem} onRetry={jobs.reload} />}
      {!jobs.problem && !jobs.value && <Waiting text="Loading" />}
      {jobs.value && !jobs.value.length && <Empty title="No job has run since the server started" />}
      {jobs.value?.map((job) => (
        <JobCard key={job.id} job={job} onEnd={onGalleryChanged} />
      ))}
    </section>
  );
}

/** Sends what `start` says, and what became of that. */
function useStart(onStarted: () => void) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const start = async (ask: () => Promise<api.Job>) => {
    setBusy(true);
    try {
      await ask();
      setProblem(null);
      onStarted();
    } catch (error) {
      setProblem(problemFrom(error));
    }
    setBusy(false);
  };
  return { busy, problem, start };
}

interface Place {
  /** From the root's own down to the folder that is shown. */
  steps: api.Folder[];
  folders: api.Folder[];
}

/** The folder at `path`, and what the folders above it are called. */
async function placeAt(root: string, path: string, signal: AbortSignal): Promise<Place> {
  const parts = path.split("/").filter(Boolean);
  const paths = parts.map((_, i) => parts.slice(0, i + 1).join("/"));
  const levels = await Promise.all(["", ...paths].map((at) => api.folders(root, at, signal)));
  const steps = paths.map((at, i) => levels[i]?.folders.find((folder) => folder.path === at) ?? { name: "…", path: at });
  return { steps: [{ name: root, path: "" }, ...steps], folders: levels.at(-1)?.folders ?? [] };
}

function IndexForm({ root, folder, onStarted }: { root: string | null; folder: string; onStarted: () => void }) {
  const roots = useLoad("roots", api.roots);
  const chosen = root ?? roots.value?.[0]?.name ?? null;
  const { busy, problem, start } = useStart(onStarted);
  return (
    <section class="card" aria-labelledby="index-title">
      <h2 id="index-title">Index a folder</h2>
      {roots.problem && <ProblemNotice problem={roots.problem} onRetry={roots.reload} />}
      {roots.value && !roots.value.length && (
        <p class="quiet">
          No folder may be read yet. Name some under <code>roots</code> of the table <code>[web]</code> in <code>cbmir.toml</code>, then
          start the server again.
        </p>
      )}
      {roots.value && roots.value.length > 1 && (
        <Select
          label="Root"
          value={chosen ?? ""}
          choices={roots.value.map(({ name }) => ({ value: name, name }))}
          onChange={(name) => go({ page: "jobs", root: name, folder: "" }, { keepScroll: true })}
        />
      )}
      {chosen && <FolderPicker root={chosen} folder={folder} busy={busy} onIndex={() => void start(() => api.startIndex(chosen, folder))} />}
      {problem && <ProblemNotice problem={problem} />}
    </section>
  );
}

function FolderPicker({ root, folder, busy, onIndex }: { root: string; folder: string; busy: boolean; onIndex: () => void }) {
  const here = useLoad(`folders ${root} ${folder}`, (signal) => placeAt(root, folder, signal));
  const at = (path: string) => ({ page: "jobs", root, folder: path }) as const;
  if (here.problem) return <ProblemNotice problem={here.problem} onRetry={here.reload} />;
  if (!here.value) return <Waiting text="Looking into the folder" />;
  const { steps, folders } = here.value;
  return (
    <>
      <nav class="crumbs" aria-label="Folder">
        {steps.map((step, i) => (
          <span key={step.path}>
            {i > 0 && "/ "}
            <Link to={at(step.path)} keepScroll>
              {step.name}
            </Link>
          </span>
        ))}
      </nav>
      <ul class="folders">
        {folders.map(({ name, path }) => (
          <li key={path}>
            <Link to={at(path)} keepScroll>
              <Icon name="folder" /> {name}
            </Link>
          </li>
        ))}
        {!folders.length && <li class="quiet">No folders in here.</li>}
      </ul>
      <button type="button" class="strong" disabled={busy} onClick={onIndex}>
        Index {steps.at(-1)?.name}
      </button>
    </>
  );
}

function ReindexForm({ onStarted }: { onStarted: () => void }) {
  const { encoder } = useSurroundings().gallery;
  const [name, setName] = useState("");
  const { busy, problem, start } = useStart(onStarted);
  return (
    <section class="card" aria-labelledby="reindex-title">
      <h2 id="reindex-title">Change the encoder</h2>
      <p class="quiet">
        Every image is read again; searches go on with {encoder.name} until the new features are complete.
      </p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void start(() => api.startReindex(name.trim()));
        }}
      >
        <label>
          New encoder
          <input type="text" value={name} placeholder="default" required spellcheck={false} onInput={(event) => setName(event.currentTarget.value)} />
        </label>
        <button type="submit" disabled={busy || !name.trim()}>
          Re-index
        </button>
      </form>
      {problem && <ProblemNotice problem={problem} />}
    </section>
  );
}

const KINDS = { index: "Index run", reindex: "Change of encoder" } as const;
const STATES = { running: "running", done: "done", failed: "failed", cancelled: "stopped" } as const;

/** A job as it was listed, then as its events tell. */
function useJob(listed: api.Job, onEnd: () => void): api.Job {
  const [job, setJob] = useState(listed);
  useEffect(() => {
    setJob(listed);
    if (listed.state !== "running") return;
    const events = api.jobEvents(listed.id);
    const told = (event: MessageEvent<string>) => setJob(JSON.parse(event.data) as api.Job);
    const ended = (event: MessageEvent<string>) => {
      told(event);
      events.close();
      forgetAnswers();
      onEnd();
    };
    events.addEventListener("progress", told);
    events.addEventListener("end", ended);
    return () => events.close();
  }, [listed.id, listed.state]);
  return job;
}

function JobCard({ job: listed, onEnd }: { job: api.Job; onEnd: () => void }) {
  const job = useJob(listed, onEnd);
  const { busy, problem, start } = useStart(() => undefined);
  const { role } = useSurroundings().session;
  const mayStop = role === "admin" || (role === "contributor" && job.kind === "index");
  const left = job.total !== null && job.rate ? (job.total - job.done) / job.rate : null;
  return (
    <article class={`job ${job.state}`} aria-label={`${KINDS[job.kind]}, ${STATES[job.state]}`}>
      <header>
        <strong>{KINDS[job.kind]}</strong>
        <span class="state">{STATES[job.state]}</span>
        <time dateTime={job.started}>{new Date(job.started).toLocaleString()}</time>
        {job.state === "running" && mayStop && (
          <button
            type="button"
            disabled={busy}
            onClick={() =>
              void start(async () => {
                await api.cancelJob(job.id);
                return job;
              })
            }
          >
            Stop
          </button>
        )}
      </header>
      {job.state === "running" && <progress max={job.total ?? 1} {...(job.total === null ? {} : { value: job.done })} aria-label="Progress" />}
      <p role="status">
        {job.done || job.total !== null ? counted(job.done, job.kind === "index" ? "file" : "image") : job.state === "running" ? "Starting" : ""}
        {job.total !== null && ` of ${whole(job.total)}`}
        {job.rate ? ` · ${job.rate.toFixed(job.rate < 10 ? 1 : 0)} a second` : ""}
        {job.state === "running" && left !== null ? ` · about ${duration(left)} left` : ""}
      </p>
      <ul class="outcomes">
        {Object.entries(job.outcomes)
          .filter(([, n]) => n)
          .map(([outcome, n]) => (
            <li key={outcome}>
              {outcomeName(outcome)} <strong>{whole(n)}</strong>
            </li>
          ))}
        {REPORTED.map((name) => {
          const n = job.report?.[name];
          return typeof n === "number" && n > 0 ? (
            <li key={name}>
              {name} <strong>{whole(n)}</strong>
            </li>
          ) : null;
        })}
      </ul>
      {job.message && <p class={job.state === "failed" ? "bad" : "quiet"}>{job.message}</p>}
      {problem && <ProblemNotice problem={problem} />}
    </article>
  );
}

const REPORTED = ["added", "unchanged", "moved", "vanished", "duplicates", "conflicts"];
