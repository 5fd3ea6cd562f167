/** What was measured: the reports of `cbmir evaluate`, and one of them. */

import * as api from "../api";
import { useLoad, useTitle } from "../hooks";
import { go, Link } from "../navigation";
import { Segments, Select } from "../parts/controls";
import { Empty, ProblemNotice, Waiting } from "../parts/notice";
import { Confusion } from "../report/confusion";
import { Curves } from "../report/curves";
import type { Metrics } from "../report/metrics";
import { ClassificationList, PartTable, RetrievalTable } from "../report/tables";
import { counted, fixed, whole } from "../words";

export function ReportsPage() {
  const { value, problem, reload } = useLoad("reports", api.reports);
  useTitle("Reports");
  return (
    <section class="page" aria-labelledby="reports-title">
      <header class="results">
        <h1 id="reports-title">Reports</h1>
        <p class="quiet">How well encoders find what is alike, measured on images they had not seen.</p>
      </header>
      {problem && <ProblemNotice problem={problem} onRetry={reload} />}
      {!problem && !value && <Waiting text="Loading" />}
      {value && !value.length && (
        <Empty title="No report is shown by this server">
          <p>
            Make one with <code>cbmir evaluate</code>, and name its folder under <code>reports</code> of the table <code>[web]</code> in{" "}
            <code>cbmir.toml</code>.
          </p>
        </Empty>
      )}
      {value && value.length > 0 && (
        <div class="scrolls" tabIndex={0} role="region" aria-label="Table of reports">
          <table>
            <thead>
              <tr>
                <th scope="col">Report</th>
                <th scope="col">Encoder</th>
                <th scope="col" class="n">
                  Queries
                </th>
                <th scope="col" class="n">
                  Gallery
                </th>
                <th scope="col" class="n">
                  mAP
                </th>
              </tr>
            </thead>
            <tbody>
              {value.map((line) => (
                <tr key={line.name}>
                  <th scope="row">
                    <Link to={{ page: "report", name: line.name, layer: null, gate: null }}>{line.name}</Link>
                  </th>
                  <td>
                    <code>{line.encoder}</code>
                  </td>
                  <td class="n">{whole(line.n_queries)}</td>
                  <td class="n">{whole(line.n_gallery)}</td>
                  <td class="n">{fixed(line.mAP)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

interface ReportProps {
  name: string;
  layer: string | null;
  gate: string | null;
}

export function ReportPage(route: ReportProps) {
  const { name } = route;
  const { value, problem, reload } = useLoad("report " + name, (signal) => api.report(name, signal) as Promise<Metrics>);
  useTitle(name);
  return (
    <section class="page report" aria-labelledby="report-title">
      <header class="results">
        <p>
          <Link to={{ page: "reports" }}>Reports</Link>
        </p>
        <h1 id="report-title">{name}</h1>
        {value && <p class="quiet">{summary(value)}</p>}
      </header>
      {problem && <ProblemNotice problem={problem} onRetry={reload} />}
      {!problem && !value && <Waiting text="Loading" />}
      {value && <Report metrics={value} {...route} />}
    </section>
  );
}

function summary(metrics: Metrics): string {
  return [
    `${counted(metrics.n_queries, "query", "queries")} in a gallery of ${counted(metrics.n_gallery, "image")}`,
    `encoder ${metrics.encoder_name ?? ""} ${metrics.encoder}`,
    metrics.relevant && `relevant: the same ${metrics.relevant}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

function Report({ metrics, name, ...route }: ReportProps & { metrics: Metrics }) {
  const layers = Object.keys(metrics.retrieval);
  const layer = route.layer && layers.includes(route.layer) ? route.layer : (layers[0] ?? "");
  const measured = metrics.retrieval[layer] ?? {};
  const gates = Object.keys(measured);
  const gate = route.gate && gates.includes(route.gate) ? route.gate : (gates[0] ?? "");
  const show = (part: Partial<ReportProps>) => go({ page: "report", name, layer, gate, ...part }, { replace: true });
  const { classes, confusion } = metrics.classification ?? {};
  return (
    <>
      <div class="options">
        {layers.length > 1 && <Select label="Layer" value={layer} choices={layers.map((value) => ({ value, name: value }))} onChange={(to) => show({ layer: to })} />}
        <Segments label="Gate" value={gate} choices={gates.map((value) => ({ value, name: value }))} onChange={(to) => show({ gate: to })} />
      </div>
      <h2>Retrieval</h2>
      <div class="pair">
        <RetrievalTable metrics={metrics} layer={layer} gate={gate} />
        <Curves gates={measured} />
      </div>
      {metrics.classification && <h2>Classification</h2>}
      <ClassificationList metrics={metrics} />
      {classes && confusion && <Confusion classes={classes} confusion={confusion} />}
      <Parts title="By class" what="Class" parts={metrics.per_class} layer={layer} gate={gate} open />
      <Parts title="By modality" what="Modality" parts={metrics.per_modality} layer={layer} gate={gate} />
      <Parts title="By source" what="Source" parts={metrics.per_source} layer={layer} gate={gate} />
      <Figures name={name} />
      <Definitions metrics={metrics} />
    </>
  );
}

interface PartsProps {
  title: string;
  what: string;
  parts: Metrics["per_class"];
  layer: string;
  gate: string;
  open?: boolean;
}

function Parts({ title, parts, open = false, ...rest }: PartsProps) {
  if (!parts || !Object.keys(parts).length) return null;
  return (
    <details class="section" open={open}>
      <summary>{title}</summary>
      <PartTable parts={parts} {...rest} />
    </details>
  );
}

/** The figures of the report that are not drawn above. */
function Figures({ name }: { name: string }) {
  const { value } = useLoad("figures " + name, (signal) => api.figures(name, signal));
  const shown = value?.filter((file) => file.endsWith(".png") && !/^(confusion|pr_)/.test(file)) ?? [];
  if (!shown.length) return null;
  return (
    <details class="section">
      <summary>Figures</summary>
      <ul class="figurelist">
        {shown.map((file) => (
          <li key={file}>
            <figure>
              <a href={api.figureOf(name, file)} target="_blank" rel="noopener">
                <img src={api.figureOf(name, file)} alt={figureName(file)} loading="lazy" />
              </a>
              <figcaption>{figureName(file)}</figcaption>
            </figure>
          </li>
        ))}
      </ul>
    </details>
  );
}

const figureName = (file: string) => file.replace(/\.png$/, "").replaceAll("_", " ");

function Definitions({ metrics }: { metrics: Metrics }) {
  const told = Object.entries(metrics.definitions ?? {});
  if (!told.length) return null;
  return (
    <details class="section">
      <summary>Definitions</summary>
      <dl class="definitions">
        {told.map(([name, what]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}
