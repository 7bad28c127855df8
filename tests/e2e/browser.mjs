// A real browser with its own profile, for the tests of the console.

import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { chromium } = createRequire(join(process.env.SIGNPOST_NODE_TOOLS, "package.json"))("playwright-core");

// Runs `use` with a browser, then closes it and removes its profile.
export async function withBrowser(use) {
  const profile = await mkdtemp(join(tmpdir(), "signpost-console-"));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.SIGNPOST_CHROMIUM,
    viewport: { width: 1360, height: 900 },
    colorScheme: "light",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  browser.setDefaultTimeout(60_000);
  try {
    await use(browser);
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}
