/** Files that gave no image, and why. */

import * as api from "../api";
import { useLoad, useTitle } from "../hooks";
import { Empty, ProblemNotice, Waiting } from "../parts/notice";
import { Pager } from "../parts/pager";
import { outcomeName, whole } from "../words";

const SIZE = 100;

export function FailedPage({ offset }: { offset: number }) {
  const { value, problem, reload } = useLoad(`failed ${offset}`, (signal) => api.failed(offset, SIZE, signal));
  useTitle("Files that were not read");
  return (
    <section class="page" aria-labelledby="failed-title">
      <header class="results">
        <h1 id="failed-title">Files that were not read</h1>
        <p class="quiet">
          Files are named by handles, which say nothing of patients. Where they are: <code>cbmir files --gallery DIR HANDLE</code>
        </p>
      </header>
      {problem && <ProblemNotice problem={problem} onRetry={reload} />}
      {!problem && !value && <Waiting text="Loading" />}
      {value && !value.total && <Empty title="Every file was read" />}
      {value && value.total > 0 && (
        <>
          <div class="scrolls" tabIndex={0} role="region" aria-label="Files and reasons">
            <table>
              <thead>
                <tr>
                  <th scope="col">File</th>
                  <th scope="col">Outcome</th>
                  <th scope="col">Why</th>
                </tr>
              </thead>
              <tbody>
                {value.failed.map((file) => (
                  <tr key={file.handle}>
                    <th scope="row">
                      <code>{file.handle}</code>
                    </th>
                    <td>{outcomeName(file.outcome)}</td>
                    <td>{file.reason}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p class="quiet">{whole(value.total)} files in all</p>
          <Pager what="files" offset={offset} size={SIZE} shown={value.failed.length} total={value.total} to={(next) => ({ page: "failed", offset: next })} />
        </>
      )}
    </section>
  );
}
