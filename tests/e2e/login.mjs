// The console's login in a real browser. Called by test_console.py. Exits with 0 only if every check passes.
// Waits for events, never for a fixed time.

import assert from "node:assert/strict";
import { join } from "node:path";

import { withBrowser } from "./browser.mjs";

const [, , url, directory, token] = process.argv;

await withBrowser(async (browser) => {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  const screenshot = (name) => page.screenshot({ path: join(directory, `${name}.png`) });
  const submit = async (text) => {
    await page.getByLabel("Token").fill(text);
    const [answer] = await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
    return answer.status();
  };

  await page.goto(url);
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  assert.equal(await submit("not-the-token-at-all"), 401);
  await page.getByRole("alert").getByText("The token is wrong.").waitFor();
  await screenshot("login-wrong");

  assert.equal(await submit(token), 200);
  await page.getByText("live", { exact: true }).waitFor();
  const [cookie] = await browser.cookies(url);
  assert.match(cookie.value, /^[0-9a-f]{64}$/);
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Strict", "/"]);
  assert.ok(cookie.expires > 0, "the cookie expires");
  assert.equal(await page.evaluate(() => document.cookie), "", "no script can read the cookie");
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  assert.ok(!stored.includes(token), stored);

  // The end of a session closes the stream, and the page then shows the login form.
  await page.route("**/api/live", async (route) => {
    await browser.clearCookies();
    await route.fulfill({ status: 200, contentType: "text/event-stream", body: "retry: 100\n\n" });
  }, { times: 1 });
  await page.reload();
  await page.getByLabel("Token").waitFor();
  assert.equal(await submit(token), 200);
  await page.getByText("live", { exact: true }).waitFor();

  // Guesses are rate-limited. Twice the limit is tried, since the window of the first guess may end meanwhile.
  await browser.clearCookies();
  await page.reload();
  const guess = (number) => fetch(new URL("/login", url), { method: "POST", body: `token=wrong-token-${number}` });
  const answers = [];
  while (answers.at(-1) !== 429 && answers.length <= 20) answers.push((await guess(answers.length)).status);
  assert.equal(answers.at(-1), 429, answers.join());
  assert.equal(await submit(token), 429, "the valid token must wait too");
  await page.getByRole("alert").getByText("Too many wrong tokens").waitFor();
  await screenshot("login-wait");
  assert.deepEqual(errors, []);
});
