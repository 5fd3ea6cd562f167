import { defineConfig } from "vitest/config";

// The page runs under a content security policy without 'unsafe-inline': nothing may be inlined, and the module preload
// polyfill (an inline script) stays out. `npm run dev` talks to a server started with `cbmir serve`.
export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/cbmir/web/page",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
  },
  server: { proxy: { "/api": "http://127.0.0.1:8600" } },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
