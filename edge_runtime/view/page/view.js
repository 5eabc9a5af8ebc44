// The page of the live view. What it shows follows from the last message and the page's own clock.

import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { element, mark, press, set, show } from "./dom.js";
import {
  clearPicture,
  colourOf,
  drawOverlay,
  drawPicture,
  drawTrend,
  leadingOf,
  scoreOf,
  TREND_SECONDS,
} from "./drawing.js";

const SILENT_MS = 900; // without a message the server counts as gone: within a second
const LONGEST_GAP_MS = 3000; // between two pictures of a slow device
const REFRESH_MS = 50;
const FIGURES_MS = 200; // between two readings: more cannot be read, and each is a painting more
const RATE_MS = 2000;
const OUT_OF_SCOPE = "unlike the pictures that the model learnt from";

const picture = element("picture");
const overlay = element("overlay");

let catalogue = null;
let controls = null;
let facts = null;
let latest = null; // the last result, with `received` in ms of this page
let shown = null; // the result that belongs to the picture; a paused view keeps it
let ended = null; // why there is no connection, else null
let sign = -Infinity; // when the last message came
let paused = false;
let status = null; // what the session says beside its results
let selected = null; // the track of the nodule that somebody chose, else null
let evidence = false; // whether the overlay is tinted
let maps = []; // the evidence that belongs to the picture
let drawn = -1; // the sequence of the last result that was drawn
let undrawn = 0; // results that this page did not draw
let interval = 0; // ms between two pictures
let recent = []; // {at, sequence, captured} of the last results
let trend = []; // {at, score, colour, track}
let figured = -Infinity; // when the figures were written

const text = (name) => catalogue.texts[name] ?? name;
const reasonText = (reason) => catalogue.reasons[reason] ?? reason;
const refusalText = (why) => catalogue.reasons[why] ?? text(why);
const labelText = (label) => catalogue.labels[label] ?? label;

/** The nodule that the page speaks of: the chosen one where it is in view, else the leading one. */
function noduleOf(result) {
  return result?.nodules.find((nodule) => nodule.track === selected) ?? leadingOf(result);
}

/** Why the last picture must not pass for live, else null. */
function notLive(now) {
  if (ended) return ended;
  if (now - sign > SILENT_MS) return latest || facts ? "silent" : "waiting";
  if (facts?.waiting) return "no_session";
  if (!latest) return "waiting";
  const gap = Math.min(LONGEST_GAP_MS, Math.max(SILENT_MS, 2.5 * interval));
  if (latest.result.state === "LIVE" && !facts.received && now - latest.received > gap) return "silent";
  return null;
}

/** Why the device runs no session now. */
function whyNoSession() {
  return [reasonText(facts.waiting), facts.why].filter(Boolean).join(": ");
}

/** What the pictures are: those of now, of a recording, or sent one after the other. */
function sourceWord() {
  if (facts.live) return "LIVE";
  return facts.received ? "RECEIVED" : "RECORDING";
}

/** The word of the banner, the line beside it, its tone, and whether the picture may be seen. */
function banner(now) {
  const trouble = notLive(now);
  if (trouble) {
    const line = trouble === "no_session" ? whyNoSession() : text(trouble);
    return { word: "NO_LIVE_VIDEO", line, tone: "alarm", seen: false };
  }
  const { result, late } = latest;
  const reason = result.reason ? reasonText(result.reason) : "";
  if (paused) {
    return { word: "PAUSED", line: text("paused"), tone: "caution", seen: true };
  }
  if (result.state === "LIVE" && late) {
    return { word: "STALE", line: text("late"), tone: "alarm", seen: false };
  }
  switch (result.state) {
    case "LIVE":
      if (result.nodules.length && result.nodules.every(isOutOfScope)) {
        return { word: "OUT_OF_SCOPE", line: reason, tone: "caution", seen: true };
      }
      return { word: sourceWord(), line: "", tone: "live", seen: true };
    case "SEARCHING":
    case "FROZEN":
      return { word: result.state, line: reason, tone: "caution", seen: true };
    case "LOST":
      return { word: "NO_LIVE_VIDEO", line: reason, tone: "alarm", seen: false };
    case "STALE":
      return { word: "STALE", line: reason, tone: "alarm", seen: false };
    default:
      return { word: result.state, line: reason, tone: "alarm", seen: true };
  }
}

function render() {
  if (!catalogue || !controls) return;
  const now = performance.now();
  const { word, line, tone, seen } = banner(now);
  const words = catalogue.states[word] ?? word;
  mark(document.body, "tone", tone);
  mark(document.body, "state", word);
  set("state", words);
  set("reason", line);
  set("blank", seen ? "" : words);
  if (!seen) forgetPicture();
  const result = latest?.result;
  const connected = result && !notLive(now);
  show("fallback", connected && result.fallback);
  if (connected && result.fallback) set("fallback", `${text("fallback")}: ${result.fallback}`);
  show("health", connected && result.health.length > 0);
  if (connected) set("health", result.health.map(reasonText).join("; "));
  const decided = seen && shown?.state === "LIVE";
  renderDecision(decided ? shown : null, line);
  renderNodules(decided ? shown : null);
  renderExam(connected);
  controls.render(connected ? status : null, now, tone, seen && picture.dataset.frame !== undefined);
  const score = scoreOf(noduleOf(result));
  if (score) element("trend").dataset.threshold = score.threshold;
  const threshold = element("trend").dataset.threshold;
  if (connected && now - figured < FIGURES_MS) return;
  figured = now;
  renderFigures(connected ? shown : null, now);
  drawTrend(element("trend"), trend, now, threshold ? Number(threshold) : null, facts?.margin ?? 0);
}

/** Takes the picture away; a paused view goes on, for it has nothing left that stands still. */
function forgetPicture() {
  if (picture.dataset.frame !== undefined) clearPicture(picture, overlay);
  if (paused) togglePause();
}

/** Label and score, of a picture that was LIVE alone. The banner's line is not said again. */
function renderDecision(result, line) {
  const nodule = noduleOf(result);
  const score = scoreOf(nodule);
  document.body.style.setProperty("--label", result ? colourOf(result, nodule) : "#c4c4c4");
  const number = isFound(nodule) ? `${nodule.track}  ` : "";
  set("label", number + (nodule?.label ? labelText(nodule.label) : text("no_label")));
  const why = nodule ? nodule.reason : result?.reason;
  const reason = why ? reasonText(why) : "";
  set("why", reason === line ? "" : reason);
  show("score", score !== null);
  if (!score) return;
  const { threshold } = score;
  const low = Math.max(0, threshold - facts.margin);
  const high = Math.min(1, threshold + facts.margin);
  set("score-text", `${text("score")} (${labelText(score.label)}) ${score.score.toFixed(2)}`);
  set("threshold-text", `${text("threshold")} ${threshold.toFixed(2)}`);
  set("zone-text", text("zone").replace("{low}", low.toFixed(2)).replace("{high}", high.toFixed(2)));
  element("bar").style.width = `${100 * score.score}%`;
  element("threshold").style.left = `${100 * threshold}%`;
  element("zone").style.left = `${100 * low}%`;
  element("zone").style.width = `${100 * (high - low)}%`;
  show("evidence-text", evidence);
  if (evidence) {
    const [first, last] = [Object.keys(nodule.probability)[0], Object.keys(nodule.probability).at(-1)];
    const words = text("evidence_means").replace("{last}", labelText(last));
    set("evidence-text", words.replace("{first}", labelText(first)));
  }
  show("adjusted", nodule.adjusted && result.adjusted_prevalence);
  if (nodule.adjusted && result.adjusted_prevalence) {
    const share = result.adjusted_prevalence[score.label].toFixed(2);
    const probability = nodule.adjusted[score.label].toFixed(2);
    set("adjusted", `${text("adjusted").replace("{share}", share)}: ${probability}`);
  }
}

const isOutOfScope = (nodule) => nodule.reason === OUT_OF_SCOPE;

/** Whether a locator found the nodule, and nobody marked it. */
function isFound(nodule) {
  return nodule !== undefined && nodule.locator_score !== null;
}

/** The score, and where it would lie with more views of the nodule. */
function scoreText(nodule, { label, score }) {
  if (!nodule.interval) return score.toFixed(2);
  const [low, high] = nodule.interval[label];
  return `${score.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`;
}

/** The nodules that a locator found, a button each. A button stays while its nodule does. */
function renderNodules(result) {
  const list = element("nodules");
  const found = (result?.nodules ?? []).filter(isFound);
  show("nodules", found.length > 0);
  const tracks = new Set(found.map((nodule) => String(nodule.track)));
  for (const item of [...list.children]) if (!tracks.has(item.dataset.track)) item.remove();
  for (const nodule of found) {
    const known = [...list.children].find(({ dataset }) => dataset.track === String(nodule.track));
    const button = (known ?? addNodule(list, nodule.track)).firstChild;
    const score = scoreOf(nodule);
    const label = nodule.label ? labelText(nodule.label) : text("no_label");
    const rest = score ? scoreText(nodule, score) : reasonText(nodule.reason ?? "");
    const words = [String(nodule.track), label, rest];
    words.forEach((word, place) => {
      if (button.children[place].textContent !== word) button.children[place].textContent = word;
    });
    button.style.setProperty("--own", colourOf(result, nodule));
    button.setAttribute("aria-pressed", String(nodule.track === selected));
  }
}

function addNodule(list, track) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  item.dataset.track = String(track);
  button.type = "button";
  button.append(...["b", "span", "small"].map((name) => document.createElement(name)));
  button.onclick = () => select(track);
  item.append(button);
  const after = [...list.children].find(({ dataset }) => Number(dataset.track) > track);
  list.insertBefore(item, after ?? null);
  return item;
}

/** Chooses a nodule, or none where it was chosen. */
function select(track) {
  selected = selected === track ? null : track;
  redraw();
}

const marks = () => ({ words: overlayText, selected, evidence: evidence ? maps : [] });

/** Draws the overlay anew: a paused picture gets no other. */
function redraw() {
  if (shown && picture.dataset.frame !== undefined) drawOverlay(overlay, shown, marks());
  render();
}

function renderExam(connected) {
  const exam = connected ? status?.exam : null;
  const parts = [];
  if (exam?.begun) {
    const time = new Date(exam.begun).toTimeString().slice(0, 5);
    parts.push(text("exam_since").replace("{time}", time).replace("{count}", exam.stills));
  }
  if (exam?.trouble) parts.push(`${text("exam_trouble")}: ${reasonText(exam.trouble)}`);
  if (exam?.lost) parts.push(text("exam_lost").replace("{count}", exam.lost));
  if (exam?.unsent) parts.push(text("exam_unsent").replace("{count}", exam.unsent));
  show("exam-status", parts.length > 0);
  set("exam-status", parts.join("; "));
  element("exam-status").dataset.trouble = String(Boolean(exam?.trouble || exam?.lost || exam?.unsent));
}

/** The line on the picture. */
function overlayText(nodule) {
  const score = scoreOf(nodule);
  const decision = nodule.label ? labelText(nodule.label) : text("no_label");
  const label = isFound(nodule) ? `${nodule.track}  ${decision}` : decision;
  return score ? `${label}  ${score.score.toFixed(2)} / ${score.threshold.toFixed(2)}` : label;
}

function renderFigures(result, now) {
  const age = result && result.frame !== null ? connection.age(result.captured_at) : null;
  set("age", age ? `${Math.max(0, Math.round(age.age))} ms` : "–");
  recent = recent.filter((point) => now - point.at < RATE_MS);
  const [first, last] = [recent[0], recent.at(-1)];
  const seconds = recent.length > 1 ? last.captured - first.captured : 0;
  set("rate", result && seconds > 0 ? `${((last.sequence - first.sequence) / seconds).toFixed(1)}` : "–");
  set("missed", latest && facts ? String(latest.missed) : "–");
  set("undrawn", String(undrawn));
  show("temperature", status !== null); // a page without an operator's session is told none
  set("celsius", status && status.celsius !== null ? `${status.celsius} °C` : "–");
  set("backend", latest ? latest.result.backend : "–");
  set("bundle", latest ? latest.result.bundle : "–");
}

/** Takes a result with its picture, and shows both together. */
async function onResult({ result, missed, evidence: tints }, jpeg) {
  const session = facts;
  let bitmap = null;
  try {
    if (jpeg.length) bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  } catch {
    bitmap = null; // a picture that cannot be decoded is not shown, and its result is
  }
  if (session === facts && result.sequence > drawn) take(result, missed, tints, bitmap);
  bitmap?.close();
  connection.confirm();
  render();
}

function take(result, missed, tints, bitmap) {
  const now = performance.now();
  if (drawn >= 0 && !paused) undrawn += result.sequence - drawn - 1;
  drawn = result.sequence;
  const age = result.frame === null ? null : connection.age(result.captured_at);
  const late = age !== null && age.age - age.error > 1000 * facts.budget && facts.live;
  if (result.frame !== null && latest && latest.result.frame !== null) {
    const step = 1000 * (result.captured_at - latest.result.captured_at);
    interval = interval ? 0.7 * interval + 0.3 * step : step;
  }
  latest = { result, missed, received: now, late };
  if (!paused) shown = result;
  recent.push({ at: now, sequence: result.sequence, captured: result.captured_at });
  const nodule = noduleOf(result);
  const score = result.state === "LIVE" && !late ? scoreOf(nodule) : null;
  trend = trend.filter((point) => now - point.at < 1000 * TREND_SECONDS);
  const colour = colourOf(result, nodule);
  trend.push({ at: now, score: score?.score ?? null, colour, track: nodule?.track });
  if (paused) return;
  if (!bitmap || late) return clearPicture(picture, overlay);
  maps = tints;
  drawPicture(picture, overlay, bitmap, result, marks());
  const detail = { frame: result.frame, age: connection.age(result.captured_at)?.age ?? null };
  document.dispatchEvent(new CustomEvent("drawn", { detail }));
}

function toggleOverlay() {
  overlay.hidden = !overlay.hidden;
  press("toggle-overlay", !overlay.hidden);
}

function toggleEvidence() {
  if (!facts?.evidence) return;
  evidence = !evidence;
  press("toggle-evidence", evidence);
  redraw();
}

function togglePause() {
  paused = !paused;
  if (!paused && latest) shown = latest.result;
  press("toggle-pause", paused);
  render();
}

async function speak(code) {
  catalogue = await (await fetch(`/languages/${code}.json`)).json();
  document.documentElement.lang = code;
  for (const place of document.querySelectorAll("[data-text]")) {
    place.textContent = text(place.dataset.text);
  }
  for (const place of document.querySelectorAll("[data-label]")) {
    place.setAttribute("aria-label", text(place.dataset.label));
  }
  element("language").value = code;
  render();
}

/** The language chosen before, else that of the browser, else English. */
async function chooseLanguage() {
  const languages = await (await fetch("/languages.json")).json();
  for (const [code, name] of Object.entries(languages)) {
    element("language").add(new Option(name, code));
  }
  const wishes = [localStorage.getItem("language"), ...navigator.languages.map((tag) => tag.split("-")[0])];
  await speak(wishes.find((code) => code in languages) ?? "en");
}

await chooseLanguage();
const token = location.hash.slice(1);
if (token) history.replaceState(null, "", "/"); // so that nobody reads it over a shoulder
const connection = new Connection({
  token,
  onResult,
  onFacts: (value) => {
    facts = value;
    ended = latest = shown = null;
    status = selected = null;
    drawn = -1;
    trend = recent = [];
    interval = undrawn = 0;
    forgetPicture();
    show("toggle-evidence", facts.evidence);
    controls.admit(facts);
    render();
  },
  onStatus: (value) => (status = value),
  onSign: () => (sign = performance.now()),
  onEnd: (why) => {
    ended = why;
    render();
  },
});
controls = new Controls({
  text,
  reason: refusalText,
  connection,
  shown: () => (paused ? null : shown),
});
element("toggle-overlay").onclick = toggleOverlay;
element("toggle-evidence").onclick = toggleEvidence;
element("toggle-pause").onclick = togglePause;
element("language").onchange = ({ target }) => {
  localStorage.setItem("language", target.value);
  speak(target.value);
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (document.querySelector("dialog[open]") || event.target.tagName === "SELECT") return;
  const keys = { o: toggleOverlay, e: toggleEvidence, p: togglePause };
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held is one command
  const nodule = shown?.nodules.find((each) => isFound(each) && String(each.track) === event.key);
  const taken = controls.key(event);
  if (taken) event.preventDefault();
  else if (nodule) select(nodule.track);
  else keys[event.key.toLowerCase()]?.();
});
window.onresize = () => {
  figured = -Infinity; // the trend is drawn to the new size
  render();
};
setInterval(render, REFRESH_MS);
