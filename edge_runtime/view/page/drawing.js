// What is drawn: the picture, the overlay on it, and the trend of the score.

export const TREND_SECONDS = 10;
const POSITIVE = "#ffaa3c";
const NEGATIVE = "#3cc8be"; // people who confuse red and green can tell it from amber
const MORE_LABELS = [NEGATIVE, POSITIVE, "#c896e6", "#f0dc78", "#a0e6aa"];
const MAX_TINT = 0.5;
const OPAQUE = { alpha: false }; // of the picture: nothing behind it is blended in
const ABSTAINED = "#c4c4c4";
const NOT_LIVE = "#ff8a80";

/** The label to show, its smoothed probability and its threshold, as `Nodule.score`; or null. */
export function scoreOf(nodule) {
  if (!nodule?.smoothed) return null;
  const labels = Object.keys(nodule.thresholds);
  const label = labels.reduce((a, b) => (nodule.smoothed[b] > nodule.smoothed[a] ? b : a));
  return { label, score: nodule.smoothed[label], threshold: nodule.thresholds[label] };
}

/** The nodule to speak of, as `Result.leading`; undefined where there is none. */
export function leadingOf(result) {
  const rank = ({ label, thresholds }) => (label === null ? 1 : label in thresholds ? 0 : 2);
  return [...(result?.nodules ?? [])].sort((a, b) => rank(a) - rank(b))[0];
}

/** The colour of a nodule's label, as in edge_runtime/sinks/overlay.py. */
export function colourOf(result, nodule) {
  if (result.state !== "LIVE") return NOT_LIVE;
  if (!nodule?.label) return ABSTAINED;
  if (Object.keys(nodule.thresholds).length === 1) {
    return nodule.label in nodule.thresholds ? POSITIVE : NEGATIVE;
  }
  const number = Object.keys(nodule.probability).indexOf(nodule.label);
  return MORE_LABELS[number % MORE_LABELS.length];
}

/** Draws a picture and its overlay in one turn of the browser, so that they show together. */
export function drawPicture(picture, overlay, bitmap, result, marks) {
  for (const canvas of [picture, overlay]) {
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
    }
  }
  picture.getContext("2d", OPAQUE).drawImage(bitmap, 0, 0);
  picture.dataset.frame = overlay.dataset.frame = result.frame;
  drawOverlay(overlay, result, marks);
}

/**
 * Draws what stands on the picture of a result. Of `marks`, `words` writes beside a nodule,
 * `selected` is the track that stands out, and `evidence` are the maps to tint with.
 */
export function drawOverlay(overlay, result, { words, selected, evidence }) {
  const { height } = overlay;
  const context = overlay.getContext("2d");
  context.clearRect(0, 0, overlay.width, overlay.height);
  for (const { window, tint } of evidence) tintWindow(context, window, tint);
  const boxes = result.nodules.map((nodule) => ({ box: nodule.box, nodule }));
  if (!boxes.length && result.box && !result.searched) boxes.push({ box: result.box, nodule: null });
  const thin = Math.max(2, Math.round(height / 240));
  const stands = boxes.some(({ nodule }) => nodule?.track === selected) ? selected : null;
  const taken = boxes.map(({ box }) => box);
  for (const { box, nodule } of boxes) {
    const colour = colourOf(result, nodule);
    const line = stands !== null && nodule.track === stands ? 2 * thin : thin;
    context.globalAlpha = stands !== null && nodule.track !== stands ? 0.45 : 1;
    strokeBox(context, box, line, colour);
    if (result.state === "LIVE" && nodule) {
      taken.push(writeBeside(context, box, words(nodule), line, colour, overlay, taken));
    }
  }
  context.globalAlpha = 1;
}

/** Tints a window of the picture, as edge_runtime/sinks/overlay.py; `tint` is in hundredths. */
function tintWindow(context, [x, y, w, h], tint) {
  const map = new OffscreenCanvas(tint[0].length, tint.length);
  const cells = map.getContext("2d");
  tint.forEach((row, down) =>
    row.forEach((share, across) => {
      cells.fillStyle = share > 0 ? POSITIVE : NEGATIVE;
      cells.globalAlpha = (MAX_TINT * Math.abs(share)) / 100;
      cells.fillRect(across, down, 1, 1);
    }),
  );
  context.imageSmoothingEnabled = true;
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.drawImage(map, x, y, w, h);
  context.restore();
}

function strokeBox(context, [x, y, w, h], line, colour) {
  context.lineWidth = line;
  context.strokeStyle = colour;
  context.strokeRect(x + line / 2, y + line / 2, w - line, h - line);
}

/**
 * A line of text above the box, or below it where it would leave the picture or lie on another of the
 * `taken` boxes; returns where it lies.
 */
function writeBeside(context, box, text, line, colour, { width, height }, taken) {
  const [x, y, , h] = box;
  const size = Math.max(13, Math.round(height / 24));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = Math.min(width, context.measureText(text).width + size);
  const left = Math.max(0, Math.min(x, width - wide));
  const tall = Math.round(1.4 * size);
  const above = [left, y - tall - line, wide, tall];
  const below = [left, Math.min(y + h + line, height - tall), wide, tall];
  const others = taken.filter((each) => each !== box);
  const isFree = (place) => place[1] >= 0 && !others.some((each) => overlap(each, place));
  const [, top] = [above, below].find(isFree) ?? (above[1] >= 0 ? above : below);
  context.fillStyle = "rgba(0, 0, 0, 0.75)";
  context.fillRect(left, top, wide, tall);
  context.fillStyle = colour;
  context.textBaseline = "middle";
  context.fillText(text, left + size / 2, top + tall / 2, wide - size);
  return [left, top, wide, tall];
}

function overlap([x, y, w, h], [left, top, wide, tall]) {
  return x < left + wide && left < x + w && y < top + tall && top < y + h;
}

/** Removes the picture and its overlay. */
export function clearPicture(picture, overlay) {
  for (const [canvas, options] of [[picture, OPAQUE], [overlay]]) {
    canvas.getContext("2d", options).clearRect(0, 0, canvas.width, canvas.height);
    delete canvas.dataset.frame;
  }
}

/** Draws the scores of the last seconds; a gap where there was none. Points: {at, score, colour, track}. */
export function drawTrend(canvas, points, now, threshold, margin) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const across = (at) => width * (1 - (now - at) / 1000 / TREND_SECONDS);
  const pad = 3 * ratio;
  const down = (score) => pad + (height - 2 * pad) * (1 - score);
  if (threshold !== null) {
    context.fillStyle = "rgba(145, 160, 175, 0.28)";
    context.fillRect(0, down(threshold + margin), width, down(threshold - margin) - down(threshold + margin));
    context.fillStyle = "#e6ecf1";
    context.fillRect(0, down(threshold) - ratio / 2, width, ratio);
  }
  context.lineWidth = 2.5 * ratio;
  let last = null;
  for (const point of points) {
    if (point.score !== null && last?.track === point.track) {
      context.strokeStyle = point.colour;
      context.beginPath();
      context.moveTo(across(last.at), down(last.score));
      context.lineTo(across(point.at), down(point.score));
      context.stroke();
    }
    last = point.score === null ? null : point;
  }
}
