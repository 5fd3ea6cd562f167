/** The shell: what is always there, and which view is shown. */

import { useEffect, useState } from "preact/hooks";
import * as api from "./api";
import { forgetAnswers, SurroundingsContext, useKeys, useLoad } from "./hooks";
import { IntakeProvider, useIntake } from "./intake";
import { Link, useRoute } from "./navigation";
import { BrowsePage } from "./pages/browse";
import { FailedPage } from "./pages/failed";
import { HomePage } from "./pages/home";
import { JobsPage } from "./pages/jobs";
import { MapPage } from "./pages/map";
import { ReportPage, ReportsPage } from "./pages/reports";
import { SearchPage } from "./pages/search";
import { SignInPage } from "./pages/signin";
import { Help } from "./parts/help";
import { Icon } from "./parts/icons";
import { ProblemNotice, Waiting } from "./parts/notice";
import { NO_FILTER } from "./state/filter";
import type { Route } from "./state/route";
import { keepTheme, storedTheme, type Theme } from "./theme";
import { counted } from "./words";

export function App() {
  const { value, problem, reload } = useLoad("session", api.session);
  const [session, setSession] = useState<api.Session | null>(null);
  useEffect(() => setSession(value), [value]);
  useEffect(() => api.whenSignedOut(() => setSession((old) => old && { ...old, signed_in: false })), []);
  if (problem) {
    return (
      <main class="alone">
        <ProblemNotice problem={problem} onRetry={reload} />
      </main>
    );
  }
  if (!session) return <Opening />;
  if (session.auth === "token" && !session.signed_in) return <SignInPage onSignedIn={setSession} />;
  const leave = async () => {
    await api.signOut();
    forgetAnswers();
    setSession({ ...session, signed_in: false });
  };
  return <Inside session={session} onLeave={() => void leave()} />;
}

function Opening() {
  return (
    <main class="alone">
      <Waiting text="Opening the gallery" />
    </main>
  );
}

function Inside({ session, onLeave }: { session: api.Session; onLeave: () => void }) {
  const { value: gallery, problem, reload } = useLoad("gallery", api.gallery);
  if (problem) {
    return (
      <main class="alone">
        <ProblemNotice problem={problem} onRetry={reload} />
      </main>
    );
  }
  if (!gallery) return <Opening />;
  return (
    <SurroundingsContext.Provider value={{ gallery, session }}>
      <IntakeProvider>
        <Shell gallery={gallery} session={session} onLeave={onLeave} onGalleryChanged={reload} />
      </IntakeProvider>
    </SurroundingsContext.Provider>
  );
}

interface ShellProps {
  gallery: api.Gallery;
  session: api.Session;
  onLeave: () => void;
  onGalleryChanged: () => void;
}

function Shell({ gallery, session, onLeave, onGalleryChanged }: ShellProps) {
  const route = useRoute();
  const intake = useIntake();
  const [help, setHelp] = useState(false);
  const [theme, setTheme] = useState<Theme>(storedTheme());
  const switchTheme = () => {
    const next = theme === "dark" ? "light" : "dark";
    keepTheme(next);
    setTheme(next);
  };
  useKeys((key) => {
    const acts: Record<string, () => void> = {
      "?": () => setHelp(true),
      t: switchTheme,
      o: () => intake.choose(),
      "/": () => document.getElementById("written-filter")?.focus(),
    };
    acts[key]?.();
    return key in acts;
  });
  return (
    <>
      <a class="skip" href="#main">
        Skip to content
      </a>
      <header class="top">
        <Link class="brand" to={{ page: "home" }} label={`cbmir, gallery ${gallery.name}`}>
          <span class="mark" aria-hidden="true" /> cbmir
        </Link>
        <nav aria-label="Views">
          {VIEWS.map(({ name, to, pages }) => (
            <Link key={name} to={to} current={pages.includes(route.page)}>
              {name}
            </Link>
          ))}
        </nav>
        <div class="tools">
          <button type="button" class="strong" onClick={() => intake.choose()} title="Choose an image or a DICOM file to search with (o)">
            <Icon name="upload" /> <span>Search by image</span>
          </button>
          <button type="button" class="bare" onClick={switchTheme} aria-label={theme === "dark" ? "Light theme" : "Dark theme"} title="Dark or light (t)">
            <Icon name="theme" />
          </button>
          <button type="button" class="bare" onClick={() => setHelp(true)} aria-label="Help" title="Help (?)">
            <Icon name="help" />
          </button>
          {session.auth === "token" && (
            <button type="button" onClick={onLeave} title={`${session.name ?? ""}, ${session.role ?? ""}`}>
              Sign out
            </button>
          )}
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        <View route={route} onGalleryChanged={onGalleryChanged} />
      </main>
      <footer class="status">
        <strong>{gallery.page_note}</strong>
        <span>
          {gallery.name} · {counted(gallery.records, "image")} · encoder {gallery.encoder.name}
        </span>
      </footer>
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  );
}

const VIEWS: readonly { name: string; to: Route; pages: Route["page"][] }[] = [
  { name: "Gallery", to: { page: "home" }, pages: ["home", "failed"] },
  { name: "Browse", to: { page: "browse", filter: NO_FILTER, offset: 0, open: null }, pages: ["browse"] },
  { name: "Map", to: { page: "map", open: null }, pages: ["map"] },
  { name: "Jobs", to: { page: "jobs", root: null, folder: "" }, pages: ["jobs"] },
  { name: "Reports", to: { page: "reports" }, pages: ["reports", "report"] },
];

function View({ route, onGalleryChanged }: { route: Route; onGalleryChanged: () => void }) {
  switch (route.page) {
    case "home":
      return <HomePage />;
    case "browse":
      return <BrowsePage {...route} />;
    case "search":
      return <SearchPage key={JSON.stringify([route.asked.ids, route.asked.uploads, route.asked.series])} {...route} />;
    case "map":
      return <MapPage {...route} />;
    case "failed":
      return <FailedPage {...route} />;
    case "jobs":
      return <JobsPage {...route} onGalleryChanged={onGalleryChanged} />;
    case "reports":
      return <ReportsPage />;
    case "report":
      return <ReportPage {...route} />;
  }
}
