/** Who asks: a token, once; the browser then keeps a cookie that scripts cannot read. */

import { useState } from "preact/hooks";
import * as api from "../api";
import { problemFrom, useTitle } from "../hooks";
import { ProblemNotice } from "../parts/notice";

export function SignInPage({ onSignedIn }: { onSignedIn: (session: api.Session) => void }) {
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<api.Problem | null>(null);
  useTitle("Sign in");
  const submit = async () => {
    setBusy(true);
    try {
      onSignedIn(await api.signIn(token.trim()));
    } catch (error) {
      setProblem(problemFrom(error));
    }
    setBusy(false);
  };
  return (
    <main class="signin">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <h1>cbmir</h1>
        <p>Similar cases of a gallery of medical images.</p>
        <label>
          Token
          <input
            type="password"
            value={token}
            autocomplete="current-password"
            required
            autofocus
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <button type="submit" class="strong" disabled={busy || !token.trim()}>
          Sign in
        </button>
        {problem && <ProblemNotice problem={problem} advice="Whoever runs the server makes tokens: cbmir serve --new-token NAME." />}
        <p class="quiet">Research use only. Not for diagnosis.</p>
      </form>
    </main>
  );
}
