// The console in a real browser: what a person sees and does. Called by test_console.py with what it
// sent; ends with 0 only if everything was found. Everything waits for an event, nothing for a time.

import assert from "node:assert/strict";
import { join } from "node:path";

import { withBrowser } from "./browser.mjs";

const [, , url, pictures, told] = process.argv;
const { confirmed, txHash, hostile, hostileText, refused, refusedCode, later, stuck } = JSON.parse(told);

await withBrowser(async (browser) => {
  const page = await browser.newPage();
  const wrong = [], asked = new Set();
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => { if (message.type() === "error" && !message.text().includes("404")) wrong.push(message.text()); });
  page.on("dialog", (dialog) => { wrong.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  const picture = (name, fullPage = true) => page.screenshot({ path: join(pictures, `${name}.png`), fullPage });
  const find = async (text) => { await page.fill("#query", text); await page.press("#query", "Enter"); };
  const dialog = page.getByRole("dialog");
  const close = async () => { await page.keyboard.press("Escape"); await dialog.waitFor({ state: "hidden" }); };

  await page.goto(url);
  await page.getByText("live", { exact: true }).waitFor();
  await page.locator(".lane", { hasText: "hot" }).waitFor();
  assert.match(await page.locator(".lane .balance").first().textContent(), /^[\d,]+\.\d{4} BNB/);
  await picture("light");

  // An outcome appears by itself, without a reload.
  process.stdout.write("watching\n");
  await page.locator("#outcomes tr", { hasText: later }).getByText("confirmed").waitFor();

  // By id, with the keyboard alone.
  await page.keyboard.press("/");
  await page.keyboard.type(confirmed);
  await page.keyboard.press("Enter");
  await dialog.getByText("outcome published").waitFor();
  assert.equal(await page.locator("#request-id").textContent(), confirmed);
  await page.emulateMedia({ colorScheme: "dark" });
  await picture("dark-request", false);
  await close();

  // By the hash of its transaction.
  await find(txHash);
  await dialog.getByText(txHash).first().waitFor();
  assert.equal(await page.locator("#request-id").textContent(), confirmed);
  await close();

  // Why one was refused.
  await find(refused);
  await dialog.getByText(refusedCode).waitFor();
  await close();

  await find("nobody-knows-this");
  await page.locator("#search-answer", { hasText: "no such request" }).waitFor();
  await page.fill("#query", "");

  // What a requester wrote stays text.
  await find(hostile);
  await dialog.locator("pre", { hasText: hostileText }).waitFor();
  assert.equal(await page.evaluate(() => window.hostile), undefined);
  assert.equal(await dialog.locator("img, script").count(), 0);
  await close();
  await picture("dark");

  // The theme is a choice that stays.
  await page.locator("#theme").click();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");
  await page.reload();
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "light");

  // A telephone's width: nothing is cut off.
  await page.setViewportSize({ width: 390, height: 844 });
  await page.locator(".lane", { hasText: "hot" }).waitFor();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is too wide");
  await picture("narrow");

  // Every control has a name.
  for (const control of await page.locator("button, input").all()) {
    const name = await control.evaluate((it) => it.ariaLabel || it.textContent.trim() || it.labels?.[0]?.textContent.trim());
    assert.ok(name, await control.evaluate((it) => it.outerHTML));
  }

  // A lane that does not move says so.
  await page.setViewportSize({ width: 1360, height: 900 });
  const slot = page.locator(".slot.stuck[data-id]");
  await slot.waitFor();
  assert.ok((await slot.getAttribute("aria-label")).includes("stuck"));
  await picture("stuck");
  await slot.click();
  await dialog.getByText("signpost cancel").waitFor();
  assert.equal(await page.locator("#request-id").textContent(), stuck);
  await picture("stuck-request", false);

  assert.deepEqual(wrong, []);
  assert.deepEqual([...asked], [new URL(url).origin], "the page asks nobody but the console");
});
