// Frames as the viewer draws them, for the test that compares them with `cbmir render`.
// node greys.mjs FOLDER: reads NAME.json (the line of X-Frame) and NAME.frame (octets), writes NAME.rgba (octets).

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createServer } from "vite";

const folder = process.argv[2];
const vite = await createServer({ configFile: false, appType: "custom", server: { middlewareMode: true, ws: false }, logLevel: "error" });
const { frameOf } = await vite.ssrLoadModule("/src/viewer/frame.ts");
const { greyTable, opaqueGreys, paintColour, paintGrey } = await vite.ssrLoadModule("/src/viewer/grey.ts");
for (const name of readdirSync(folder).filter((file) => file.endsWith(".json"))) {
  const place = join(folder, name.slice(0, -5));
  const octets = readFileSync(place + ".frame");
  const { header, stored, window } = frameOf(readFileSync(place + ".json", "utf8"), octets.buffer.slice(octets.byteOffset, octets.byteOffset + octets.length));
  const pixels = new Uint8ClampedArray(4 * header.rows * header.columns);
  if (header.channels === 3) paintColour(stored, false, pixels);
  else paintGrey(stored, greyTable(header, window, false), opaqueGreys(), new Uint32Array(pixels.buffer));
  writeFileSync(place + ".rgba", pixels);
}
await vite.close();
