// The console's login in a real browser. Called by test_console.py; ends with 0 only if everything was found.
// Everything waits for an event, nothing for a time.

import assert from "node:assert/strict";
import { join } from "node:path";

import { withBrowser } from "./browser.mjs";

const [, , url, pictures, token] = process.argv;

await withBrowser(async (browser) => {
  const page = await browser.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  const picture = (name) => page.screenshot({ path: join(pictures, `${name}.png`) });
  const give = async (text) => {
    await page.getByLabel("Token").fill(text);
    const [answer] = await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
    return answer.status();
  };

  await page.goto(url);
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  assert.equal(await give("not-the-token-at-all"), 401);
  await page.getByRole("alert").getByText("The token is wrong.").waitFor();
  await picture("login-wrong");

  assert.equal(await give(token), 200);
  await page.getByText("live", { exact: true }).waitFor();
  const [cookie] = await browser.cookies(url);
  assert.match(cookie.value, /^[0-9a-f]{64}$/);
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path], [true, "Strict", "/"]);
  assert.ok(cookie.expires > 0, "it ends by itself");
  assert.equal(await page.evaluate(() => document.cookie), "", "no script sees it");
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }));
  assert.ok(!stored.includes(token), stored);

  // A session that is over ends the stream, and the page asks for the token by itself.
  await page.route("**/api/live", async (route) => {
    await browser.clearCookies();
    await route.fulfill({ status: 200, contentType: "text/event-stream", body: "retry: 100\n\n" });
  }, { times: 1 });
  await page.reload();
  await page.getByLabel("Token").waitFor();
  assert.equal(await give(token), 200);
  await page.getByText("live", { exact: true }).waitFor();

  // Guessing comes to an end. Twice as many as are looked at: the window of the first guess may be over meanwhile.
  await browser.clearCookies();
  await page.reload();
  const guess = (number) => fetch(new URL("/login", url), { method: "POST", body: `token=wrong-token-${number}` });
  const answers = [];
  while (answers.at(-1) !== 429 && answers.length <= 20) answers.push((await guess(answers.length)).status);
  assert.equal(answers.at(-1), 429, answers.join());
  assert.equal(await give(token), 429, "the right one waits too");
  await page.getByRole("alert").getByText("Too many wrong tokens").waitFor();
  await picture("login-wait");
  assert.deepEqual(wrong, []);
});
