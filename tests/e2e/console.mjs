// The console in a real browser, used as a person uses it. test_console.py calls it with the requests that it sent.
// Exits with 0 only if every check passes. Waits for events, never for a fixed time.

import assert from "node:assert/strict";
import { join } from "node:path";

import { withBrowser } from "./browser.mjs";

const [, , url, directory, input] = process.argv;
const { confirmed, txHash, hostile, hostileText, refused, refusedCode, later, stuck } = JSON.parse(input);

await withBrowser(async (browser) => {
  const page = await browser.newPage();
  const errors = [], origins = new Set();
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && !message.text().includes("404")) errors.push(message.text());
  });
  page.on("dialog", (dialog) => { errors.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => origins.add(new URL(request.url()).origin));
  const screenshot = (name, fullPage = true) => page.screenshot({ path: join(directory, `${name}.png`), fullPage });
  const find = async (text) => { await page.fill("#query", text); await page.press("#query", "Enter"); };
  const dialog = page.getByRole("dialog");
  const close = async () => { await page.keyboard.press("Escape"); await dialog.waitFor({ state: "hidden" }); };

  await page.goto(url);
  await page.getByText("live", { exact: true }).waitFor();
  await page.locator(".lane", { hasText: "hot" }).waitFor();
  assert.match(await page.locator(".lane .balance").first().textContent(), /^[\d,]+\.\d{4} BNB/);
  await screenshot("light");

  // A new outcome appears without a reload.
  process.stdout.write("watching\n");
  await page.locator("#outcomes tr", { hasText: later }).getByText("confirmed").waitFor();

  // Search by id, with the keyboard only.
  await page.keyboard.press("/");
  await page.keyboard.type(confirmed);
  await page.keyboard.press("Enter");
  await dialog.getByText("outcome published").waitFor();
  assert.equal(await page.locator("#request-id").textContent(), confirmed);
  await page.emulateMedia({ colorScheme: "dark" });
  await screenshot("dark-request", false);
  await close();

  // Search by transaction hash.
  await find(txHash);
  await dialog.getByText(txHash).first().waitFor();
  assert.equal(await page.locator("#request-id").textContent(), confirmed);
  await close();

  // The reason of a refusal.
  await find(refused);
  await dialog.getByText(refusedCode).waitFor();
  await close();

  await find("nobody-knows-this");
  await page.locator("#search-answer", { hasText: "no such request" }).waitFor();
  await page.fill("#query", "");

  // Metadata is shown as text and never run.
  await find(hostile);
  await dialog.locator("pre", { hasText: hostileText }).waitFor();
  assert.equal(await page.evaluate(() => window.hostile), undefined);
  assert.equal(await dialog.locator("img, script").count(), 0);
  await close();
  await screenshot("dark");

  // The chosen theme survives a reload.
  await page.locator("#theme").click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");

  // On the width of a phone nothing is cut off.
  await page.setViewportSize({ width: 390, height: 844 });
  await page.locator(".lane", { hasText: "hot" }).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is too wide");
  await screenshot("narrow");

  // Every control has an accessible name.
  for (const control of await page.locator("button, input").all()) {
    const name = await control.evaluate((it) =>
      it.ariaLabel || it.textContent.trim() || it.labels?.[0]?.textContent.trim());
    assert.ok(name, await control.evaluate((it) => it.outerHTML));
  }

  // A stuck lane is marked.
  await page.setViewportSize({ width: 1360, height: 900 });
  const slot = page.locator(".slot.stuck[data-id]");
  await slot.waitFor();
  assert.ok((await slot.getAttribute("aria-label")).includes("stuck"));
  await screenshot("stuck");
  await slot.click();
  await dialog.getByText("signpost cancel").waitFor();
  assert.equal(await page.locator("#request-id").textContent(), stuck);
  await screenshot("stuck-request", false);

  assert.deepEqual(errors, []);
  assert.deepEqual([...origins], [new URL(url).origin], "the page sends requests to the console only");
});
