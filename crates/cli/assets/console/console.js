// The page. Text from a request is always set as text, never as markup; the content security policy would also
// block scripts in markup.

import { latency, throughput } from "/charts.js";

const $ = (id) => document.getElementById(id);

/** An element with a class and children; strings become text. */
function make(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Updates a parent's children to match the items; elements with known keys are kept, with their focus. */
function keyed(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let element = known.get(name);
    if (!element) {
      element = create(item);
      element.dataset.key = name;
    }
    known.delete(name);
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const gone of known.values()) gone.remove();
}

const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };

export function duration(ms) {
  if (ms === null || ms === undefined) return "";
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

/** Decimal wei as BNB with four decimal places, never rounded up. */
function coins(wei) {
  if (wei === null) return "unknown";
  const digits = wei.padStart(19, "0");
  const whole = digits.slice(0, -18).replace(/\B(?=(\d{3})+$)/g, ",");
  return `${whole}.${digits.slice(-18, -14)} BNB`;
}

/** Decimal wei, and the same amount in BNB with all its digits. */
function amount(wei) {
  if (wei === undefined) return undefined;
  const digits = wei.padStart(19, "0");
  const fraction = digits.slice(-18).replace(/0+$/, "");
  return `${wei} wei (${digits.slice(0, -18)}${fraction ? `.${fraction}` : ""} BNB)`;
}

const short = (hash) => (hash && hash.length > 20 ? `${hash.slice(0, 10)}…${hash.slice(-8)}` : hash ?? "");

// --- Theme -----------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];

function theme(next) {
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  localStorage.setItem("signpost-theme", next);
  $("theme-name").textContent = next;
}

theme(THEMES.find((name) => name === localStorage.getItem("signpost-theme")) ?? "system");
$("theme").addEventListener("click", () => {
  const now = localStorage.getItem("signpost-theme") ?? "system";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});

// --- The page, from a snapshot ---------------------------------------------------------------------

let snapshot = null;
let chosen = "5 min";

function show() {
  $("chain").textContent = ({ 56: "BSC", 97: "BSC testnet" }[snapshot.chainId] ?? "chain") + ` · ${snapshot.chainId}`;
  keyed($("problems"), snapshot.problems, (problem) => problem, () => make("p"), text);
  numbers();
  $("no-accounts").hidden = snapshot.accounts.length > 0 || snapshot.problems.length > 0;
  keyed($("lanes"), snapshot.accounts, (account) => account.account, makeLane, updateLane);
  charts();
  $("no-outcomes").hidden = snapshot.outcomes.length > 0;
  keyed($("outcomes"), snapshot.outcomes, (row) => `${row.requestId} ${row.at}`, makeOutcome, updateOutcome);
}

function numbers() {
  const accounts = snapshot.accounts;
  const hour = snapshot.series.find((series) => series.name === "1 h").points;
  const sum = (name) => hour.reduce((total, point) => total + point[name], 0);
  const stuck = accounts.filter((account) => account.stuck).length;
  const latest = hour.findLast((point) => point.p50Ms !== null);
  const left = snapshot.accountsLeftOut ? ` of ${accounts.length + snapshot.accountsLeftOut}` : "";
  const rows = [
    ["accounts", `${accounts.length}${left}`], ["open slots", String(accounts.reduce((sum, account) => sum + account.open, 0))],
    ["stuck lanes", String(stuck), stuck > 0], ["confirmed, 1 h", String(sum("confirmed"))],
    ["otherwise, 1 h", String(sum("otherwise"))], ["median to final", latest ? duration(latest.p50Ms) : "–"],
  ];
  keyed($("numbers"), rows, ([name]) => name, ([name]) => make("div", "", make("span", "", name), make("strong")),
    (element, [, value, alarm]) => { element.classList.toggle("alarm", Boolean(alarm)); text(element.lastElementChild, value); });
}

function makeLane(account) {
  const strip = make("div", "strip");
  strip.setAttribute("role", "group");
  strip.setAttribute("aria-label", `Open slots of ${account.name}`);
  strip.addEventListener("keydown", walk);
  const name = make("div", "", make("div", "name", make("b", "", account.name), make("span", "tags")), make("span", "hash", short(account.address)));
  name.lastElementChild.title = account.address;
  return make("div", "lane", name, make("div", "balance"), strip, make("div", "age"));
}

/** Arrow keys move along a strip, which is a single Tab stop. */
function walk(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const slots = [...event.currentTarget.querySelectorAll("button.slot")];
  const next = slots[slots.indexOf(document.activeElement) + step];
  if (!next) return;
  event.preventDefault();
  slots.forEach((slot) => { slot.tabIndex = slot === next ? 0 : -1; });
  next.focus();
}

function updateLane(lane, account) {
  lane.classList.toggle("is-stuck", account.stuck || account.unusable !== null);
  const tags = [account.paused ? "paused" : null, account.unusable ?? null, account.stuck ? "stuck" : null].filter(Boolean);
  keyed(lane.querySelector(".tags"), tags, (tag) => tag, (tag) => make("span", "tag", tag), () => {});
  const balance = lane.querySelector(".balance");
  if (balance.children.length === 0) balance.append(make("span"), make("small", "", "balance"));
  text(balance.firstElementChild, coins(account.balance));
  const more = account.open - account.slots.length;
  const items = account.slots.map((slot) => ({ ...slot, key: slot.nonce }));
  if (items.length === 0) items.push({ key: "idle" });
  if (more > 0) items.push({ key: "more", more });
  const strip = lane.querySelector(".strip");
  keyed(strip, items, (item) => item.key, makeSlot, updateSlot);
  const slots = [...strip.querySelectorAll("button.slot")];
  if (slots.length > 0 && !slots.some((slot) => slot.tabIndex === 0)) slots[0].tabIndex = 0;
  const age = lane.querySelector(".age");
  const lines = account.slots.length > 0
    ? [`head ${duration(account.headAgeMs)}${account.slots[0].waitsFor ? `, waits for ${account.slots[0].waitsFor.split(":")[0]}` : ""}`, `${account.open} open · next nonce ${account.nextNonce}`]
    : ["idle", `next nonce ${account.nextNonce}`];
  if (age.children.length === 0) age.append(make("span"), make("small"));
  text(age.firstElementChild, lines[0]);
  text(age.lastElementChild, lines[1]);
}

function makeSlot(item) {
  if (item.key === "idle") return make("span", "idle", "no open slot");
  if (item.key === "more") return make("span", "more");
  const button = make("button", "slot");
  button.type = "button";
  button.tabIndex = -1;
  button.addEventListener("click", () => open(button.dataset.id));
  return button;
}

function updateSlot(element, item) {
  if (item.key === "idle") return;
  if (item.key === "more") { text(element, `+${item.more} more`); return; }
  element.className = `slot ${item.status}${item.stuck ? " stuck" : ""}`;
  element.dataset.id = item.requestId;
  const attempts = item.attempts > 1 ? `, ${item.attempts} attempts` : "";
  const waits = item.waitsFor ? `; waits for ${item.waitsFor}` : "";
  const label = `Nonce ${item.nonce}: ${item.requestId}, ${item.status}${item.stuck ? ", stuck" : ""} for ${duration(item.ageMs)}${attempts}${waits}`;
  element.title = label;
  element.setAttribute("aria-label", label);
}

function charts() {
  const windows = $("windows");
  if (!windows.querySelector("label")) {
    for (const { name } of snapshot.series) {
      const input = make("input");
      Object.assign(input, { type: "radio", name: "window", value: name, checked: name === chosen });
      input.addEventListener("change", () => { chosen = name; charts(); });
      windows.append(make("label", "", input, name));
    }
  }
  const series = snapshot.series.find(({ name }) => name === chosen);
  for (const [id, draw] of [["throughput", throughput], ["latency", latency]]) {
    $(id).replaceChildren(draw(series, $(id).clientWidth || 600, duration));
  }
}

addEventListener("resize", () => { if (snapshot) charts(); });

let first = true;

function makeOutcome(row) {
  const link = make("button", "link mono", row.requestId);
  link.type = "button";
  link.title = row.requestId;
  link.addEventListener("click", () => open(row.requestId));
  const what = row.reason ? make("td", "reason", row.reason) : make("td", "hash", row.txHash ?? "");
  what.title = row.reason ?? row.txHash ?? "";
  return make("tr", first ? "" : "fresh", make("td", "", make("span", `status ${row.status}`, row.status)), make("td", "id", link),
    make("td", "", row.account), what, make("td", "number", duration(row.tookMs)), make("td", "number"));
}

function updateOutcome(element, row) {
  text(element.lastElementChild, `${duration(Math.max(0, snapshot.at - row.at))} ago`);
}

// --- One request -----------------------------------------------------------------------------------

let opened = null;

function open(id) { location.hash = `request/${encodeURIComponent(id)}`; }

async function route() {
  const id = location.hash.startsWith("#request/") ? decodeURIComponent(location.hash.slice(9)) : null;
  if (!id) { opened = null; if ($("request").open) $("request").close(); return; }
  opened = { id, settled: false };
  $("request-id").textContent = id;
  $("request-body").replaceChildren(make("p", "empty", "Reading …"));
  if (!$("request").open) $("request").showModal();
  await refresh();
}

async function refresh() {
  const asked = opened;
  if (!asked || asked.settled || asked.busy) return;
  asked.busy = true;
  const [ok, body] = await fetch(`/api/requests/${encodeURIComponent(asked.id)}`)
    .then(async (answer) => [answer.ok, await answer.json()])
    .catch(() => [false, { error: "the console does not answer" }]);
  asked.busy = false;
  if (opened !== asked) return;
  if (ok) { asked.settled = Boolean(body.publishedAt); detail(body); }
  else $("request-body").replaceChildren(make("p", "empty", body.error));
}

function fact(list, name, value, mono) {
  if (value === undefined || value === null || value === "") return;
  list.append(make("dt", "", name), make("dd", mono ? "hash" : "", value instanceof Node ? value : String(value)));
}

const gwei = (wei) => (wei === undefined ? undefined : `${wei.length > 9 ? wei.slice(0, -9) : "0"}.${wei.padStart(9, "0").slice(-9, -6)} gwei`);
const price = (fee) => gwei(fee.gasPrice ?? fee.maxFeePerGas);

function detail(request) {
  const facts = make("dl", "facts");
  const account = snapshot?.accounts.find(({ account }) => account === request.account)?.name;
  fact(facts, "status", make("span", `status ${request.status}`, request.status));
  fact(facts, "account", account ? `${account} (${request.from})` : request.from, true);
  fact(facts, "nonce", request.nonce);
  fact(facts, "to", request.to ?? (request.nonce === undefined ? undefined : "creates a contract"), true);
  fact(facts, "contract", request.contractAddress, true);
  fact(facts, "value", amount(request.value));
  fact(facts, "data", request.dataBytes ? `${request.data} (${request.dataBytes} bytes)` : undefined, true);
  fact(facts, "gas", request.gasUsed === undefined ? request.gas : `${request.gasUsed} used of ${request.gas}`);
  fact(facts, "price", gwei(request.effectiveGasPrice ?? request.gasPrice ?? request.maxFeePerGas));
  fact(facts, "price cap", gwei(request.feeCap));
  fact(facts, "deadline", request.deadline === undefined ? undefined : new Date(request.deadline * 1000).toLocaleString());
  fact(facts, "sender", request.sender, true);
  fact(facts, "transaction", request.txHash, true);
  const parts = [facts];
  if (request.waitingFor) {
    const { code, message, since } = request.waitingFor;
    parts.push(make("p", "why waits", make("b", "", "Waits"), ` for ${code} since ${new Date(since).toLocaleTimeString()}: ${message}. `,
      make("code", "", `signpost rescue ${request.requestId}`), " shows what you can do by hand."));
  }
  if (request.reason) {
    parts.push(make("p", "why", make("b", "", request.reason.code), request.reason.message,
      request.reason.revert ? ` ${request.reason.revert.text}` : null));
  }
  const slot = snapshot?.accounts.flatMap(({ slots }) => slots).find(({ requestId }) => requestId === request.requestId);
  if (slot?.stuck) {
    parts.push(make("p", "why stuck", make("b", "", "Stuck"), "This request is the head of its lane and has not been mined for ", duration(slot.ageMs),
      ". See the nodes' answers below: the account may need funds, or the price may be at its cap; ", make("code", "", `signpost cancel ${request.requestId}`), " frees its slot."));
  }
  parts.push(make("h3", "", "Timeline"), timeline(request));
  if (request.metadata !== undefined) parts.push(make("h3", "", "Metadata"), make("pre", "", JSON.stringify(request.metadata, null, 2)));
  $("request-body").replaceChildren(...parts);
}

function timeline(request) {
  const list = make("ol", "timeline");
  const steps = [{ at: request.createdAt, what: request.status === "rejected" ? "refused" : "accepted, nonce reserved", kind: request.status === "rejected" ? "bad" : "" }];
  (request.attempts ?? []).forEach((attempt, number) => {
    const name = attempt.kind === "cancel" ? "cancel signed" : number === 0 ? "signed" : "signed again at a higher price";
    steps.push({ at: attempt.signedAt, what: `${name}, ${price(attempt.fee)}`, more: attempt.txHash });
    if (attempt.sentAt !== undefined) {
      const bad = ["refused", "misconfigured", "funds", "underpriced"].includes(attempt.answer);
      steps.push({ at: attempt.sentAt, what: `sent: ${attempt.answer}`, more: attempt.answerMessage, kind: bad ? "bad" : "" });
    }
  });
  if (request.settledAt !== undefined && request.status !== "rejected") {
    steps.push({ at: request.settledAt, what: `${request.status} in block ${request.blockNumber}, final`, more: request.blockHash, kind: request.status === "confirmed" ? "good" : "bad" });
  } else if (request.blockNumber !== undefined) {
    steps.push({ at: request.updatedAt, what: `mined in block ${request.blockNumber}, not final yet`, more: request.blockHash });
  }
  if (request.publishedAt !== undefined) steps.push({ at: request.publishedAt, what: "outcome published", kind: "good" });
  steps.sort((left, right) => left.at - right.at);
  for (const { at, what, more, kind } of steps) {
    const time = make("time", "", at === request.createdAt ? new Date(at).toLocaleTimeString() : `+${duration(at - request.createdAt)}`);
    time.dateTime = new Date(at).toISOString();
    time.title = new Date(at).toLocaleString();
    list.append(make("li", kind ?? "", time, make("div", "", what, more ? make("small", "hash", more) : null)));
  }
  return list;
}

$("close").addEventListener("click", () => $("request").close());
$("request").addEventListener("close", () => {
  // The dialog may be open for another request by now.
  if ($("request").open) return;
  if (location.hash) history.pushState(null, "", location.pathname);
  opened = null;
});
$("request").addEventListener("click", (event) => { if (event.target === $("request")) $("request").close(); });
addEventListener("hashchange", route);

// --- Search ----------------------------------------------------------------------------------------

$("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = $("query").value.trim();
  if (!query) return;
  text($("search-answer"), "");
  try {
    const answer = await fetch(`/api/search?q=${encodeURIComponent(query)}`);
    const body = await answer.json();
    if (answer.ok) open(body.requestId);
    else text($("search-answer"), body.error);
  } catch { text($("search-answer"), "the console does not answer"); }
});
$("query").addEventListener("input", () => text($("search-answer"), ""));
addEventListener("keydown", (event) => {
  if (event.key === "/" && !["INPUT", "TEXTAREA"].includes(document.activeElement.tagName)) { event.preventDefault(); $("query").focus(); }
});

// --- Live ------------------------------------------------------------------------------------------

function state(name, words) {
  $("live").className = `live ${name}`;
  text($("live-text"), words);
}

const events = new EventSource("/api/live");
events.addEventListener("snapshot", (event) => {
  snapshot = JSON.parse(event.data);
  state("on", "live");
  show();
  first = false;
  refresh();
});
events.addEventListener("error", () => {
  // A permanently closed stream means that the session has expired; reload to show the login form.
  if (events.readyState === EventSource.CLOSED) location.reload();
  else state("off", "no connection; retrying");
});
route();
