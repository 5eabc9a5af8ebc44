// Small words for the elements of the page.

export const element = (id) => document.getElementById(id);

/** Sets a text only where it changes: a screen reader reads every change. */
export function set(id, words) {
  const place = element(id);
  if (place.textContent !== words) place.textContent = words;
}

/** Marks an element for the style sheet, only where the mark changes: each change is styled anew. */
export function mark(place, name, word) {
  if (place.dataset[name] !== word) place.dataset[name] = word;
}

export function show(id, visible) {
  element(id).hidden = !visible;
}

export function press(id, pressed) {
  element(id).setAttribute("aria-pressed", String(pressed));
}
