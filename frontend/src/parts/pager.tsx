/** Pages of a long list. */

import { Link } from "../navigation";
import type { Route } from "../state/route";
import { whole } from "../words";
import { Icon } from "./icons";

interface PagerProps {
  what: string;
  offset: number;
  size: number;
  shown: number;
  /** null where nobody knows: then a full page has a next one. */
  total: number | null;
  to: (offset: number) => Route;
}

export function Pager({ what, offset, size, shown, total, to }: PagerProps) {
  const last = offset + shown;
  const more = total === null ? shown === size : last < total;
  if (!more && offset === 0) return null;
  return (
    <nav class="pager" aria-label={`Pages of ${what}`}>
      {offset > 0 ? (
        <Link class="button" to={to(Math.max(0, offset - size))} label="Previous page">
          <Icon name="left" /> Previous
        </Link>
      ) : (
        <span class="button off" role="link" aria-disabled="true">
          <Icon name="left" /> Previous
        </span>
      )}
      <span class="told">
        {whole(Math.min(offset + 1, last))}–{whole(last)}
        {total !== null && ` of ${whole(total)}`}
      </span>
      {more ? (
        <Link class="button" to={to(offset + size)} label="Next page">
          Next <Icon name="right" />
        </Link>
      ) : (
        <span class="button off" role="link" aria-disabled="true">
          Next <Icon name="right" />
        </span>
      )}
    </nav>
  );
}
