/** What can be done here, and with which keys. */

import { useState } from "preact/hooks";
import { lettersAct, setLettersAct } from "../hooks";
import { VIEWER_KEYS } from "../viewer/keys";
import { Dialog } from "./dialog";

const EVERYWHERE: readonly [string, string][] = [
  ["Ctrl + V", "search with the copied picture"],
  ["o", "choose a file to search with"],
  ["/", "write a filter"],
  ["t", "dark or light"],
  ["?", "this help"],
];

const GRID: readonly [string, string][] = [
  ["↑ ↓ ← →", "from picture to picture"],
  ["Enter", "open: a hit beside the query; in the gallery: find similar"],
  ["f", "find images similar to this one"],
  ["a", "add this one to the query"],
  ["l", "more like this"],
  ["x", "less like this"],
  ["u", "undo the last judgement"],
  ["g", "next gate: off, hard, top 3, soft"],
];

const OPEN: readonly [string, string][] = [["n, p", "next and previous hit"]];

export function Help({ onClose }: { onClose: () => void }) {
  const [letters, setLetters] = useState(lettersAct());
  return (
    <Dialog title="Help" onClose={onClose}>
      <p>
        Drop a picture or a DICOM file anywhere, paste one, or choose one: the most similar images of the gallery come at once.
        Or start from any image of the gallery.
      </p>
      <p>
        A <strong class="sign">≠</strong> and a red frame mark a hit whose class differs from the class predicted for the query.
        The gate says how that prediction limits a search: <em>hard</em> shows only hits of the predicted class, <em>top 3</em>{" "}
        those of the three likeliest, <em>soft</em> moves unlikely classes back.
      </p>
      <div class="keys">
        <div>
          <Keys title="In a grid of images" keys={GRID} />
          <Keys title="Everywhere" keys={EVERYWHERE} />
        </div>
        <Keys title="In the viewer" keys={[...OPEN, ...VIEWER_KEYS]} />
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={letters}
          onChange={(event) => {
            setLettersAct(event.currentTarget.checked);
            setLetters(event.currentTarget.checked);
          }}
        />
        Single letters act as keys of the pages (turn off for speech input)
      </label>
      <p class="quiet">Research use only. Not for diagnosis.</p>
    </Dialog>
  );
}

function Keys({ title, keys }: { title: string; keys: readonly (readonly [string, string])[] }) {
  return (
    <section>
      <h3>{title}</h3>
      <dl>
        {keys.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
