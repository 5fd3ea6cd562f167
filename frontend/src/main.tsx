import { render } from "preact";
import { App } from "./app";
import { applyTheme, storedTheme } from "./theme";
import "./style/tokens.css";
import "./style/page.css";
import "./style/images.css";
import "./style/views.css";

applyTheme(storedTheme());
const place = document.getElementById("app");
if (place) render(<App />, place);
