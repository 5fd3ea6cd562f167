/** What was judged: shown, undone, forgotten. */

import { Icon } from "../parts/icons";
import { Thumbnail } from "../parts/tile";
import { judged, undone, type Asked } from "../state/asked";

export function JudgementBar({ asked, onChange }: { asked: Asked; onChange: (asked: Asked) => void }) {
  if (!asked.judgements.length) return null;
  const part = (liked: boolean, words: string) => {
    const ids = asked.judgements.filter((one) => one.liked === liked).map((one) => one.id);
    if (!ids.length) return null;
    return (
      <div class={liked ? "judged liked" : "judged unliked"}>
        <span>
          <Icon name={liked ? "like" : "unlike"} /> {words}
        </span>
        <ul>
          {ids.map((id) => (
            <li key={id}>
              <button type="button" aria-label={`Take back: ${words}`} title="Take this judgement back" onClick={() => onChange(judged(asked, id, liked))}>
                <Thumbnail id={id} digest={null} />
              </button>
            </li>
          ))}
        </ul>
      </div>
    );
  };
  return (
    <section class="judgements" aria-label="Your judgements">
      {part(true, "More like these")}
      {part(false, "Less like these")}
      <button type="button" onClick={() => onChange(undone(asked))} title="Undo the last judgement (u)">
        <Icon name="undo" /> Undo
      </button>
      <button type="button" class="plain" onClick={() => onChange({ ...asked, judgements: [], offset: 0 })}>
        Forget all
      </button>
    </section>
  );
}
