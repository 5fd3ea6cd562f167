/** Small controls with a visible label. */

interface Choice<T extends string> {
  value: T;
  name: string;
  /** Why it cannot be chosen. */
  not?: string | undefined;
  title?: string;
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T;
  choices: readonly Choice<T>[];
  onChange: (value: T) => void;
}

/** One of a few, all in sight. */
export function Segments<T extends string>({ label, value, choices, onChange }: ChoiceProps<T>) {
  return (
    <fieldset class="segments">
      <legend>{label}</legend>
      <div class="row">
        {choices.map((choice) => (
          <label key={choice.value} title={choice.not ?? choice.title} class={choice.not ? "off" : undefined}>
            <input
              type="radio"
              name={label}
              value={choice.value}
              checked={choice.value === value}
              disabled={Boolean(choice.not)}
              onChange={() => onChange(choice.value)}
            />
            <span>{choice.name}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

/** One of several. */
export function Select<T extends string>({ label, value, choices, onChange }: ChoiceProps<T>) {
  return (
    <label class="select">
      <span>{label}</span>
      <select value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value} disabled={Boolean(choice.not)}>
            {choice.name}
            {choice.not ? ` (${choice.not})` : ""}
          </option>
        ))}
      </select>
    </label>
  );
}
