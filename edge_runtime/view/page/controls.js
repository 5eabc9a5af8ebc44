// What an operator does: the region of interest, stills and exams. A viewer has none of it.

import { element, press, set, show } from "./dom.js";
import { RegionEditor } from "./region.js";

const ANSWER_MS = 6000;
const STILL_WORKS = ["live", "caution"]; // tones of the banner in which a picture can be kept

/** The controls of one page. `text` and `reason` translate; `shown` is the result on the page. */
export class Controls {
  #text;
  #reason;
  #shown;
  #connection;
  #region;
  #remember = false;
  #follow = false;
  #known = null; // the last status
  #answered = -Infinity;
  #facts = null;
  #steps = []; // of the worklist

  constructor({ text, reason, shown, connection }) {
    this.#text = text;
    this.#reason = reason;
    this.#shown = shown;
    this.#connection = connection;
    this.#region = new RegionEditor(
      element("screen"), element("picture"), element("region"), () => this.#mark());
    element("toggle-region").onclick = () => this.#toggleRegion();
    element("region-clear").onclick = () => this.#clear();
    element("region-remember").onclick = () => this.#toggleRemember();
    element("region-follow").onclick = () => this.#toggleFollow();
    element("region-done").onclick = () => this.#toggleRegion();
    element("keep-still").onclick = () => this.#keepStill();
    element("exam").onclick = () => this.#openExam();
    element("exam-cancel").onclick = () => element("exam-form").close();
    element("worklist").onchange = () => this.#choose();
    element("exam-fields").oninput = ({ target }) => {
      if (target.id !== "worklist") this.#forgetChoice(); // what somebody types is of nobody's study
    };
    element("exam-fields").onsubmit = (event) => {
      event.preventDefault();
      this.#changeExam();
    };
  }

  /** Shows the controls of a role. */
  admit(facts) {
    this.#facts = facts;
    const operates = facts.role === "operator";
    show("operate", operates);
    show("keep-still", facts.exams);
    show("exam", facts.exams);
    show("region-follow", facts.follow);
    if (!operates && this.#region.active) this.#toggleRegion();
  }

  /** Shows the status of the session beside the banner `tone`; `pictured`: a picture is seen. */
  render(status, now, tone, pictured) {
    if (status && status !== this.#known) {
      if (status.remembered !== this.#known?.remembered) this.#remember = status.remembered;
      if (status.follow !== this.#known?.follow) this.#follow = status.follow;
      this.#known = status;
    }
    const region = (status?.follow && this.#followed()) || (status?.region ?? null);
    this.#region.update(region, pictured);
    if (this.#region.active) {
      const box = this.#region.box;
      const hint = box ? this.#text("change_region") : this.#text("draw_region");
      set("region-hint", pictured ? hint : this.#text("no_picture"));
      press("region-remember", this.#remember);
      press("region-follow", this.#follow);
      element("region-clear").disabled = !region;
    }
    const exam = status?.exam;
    const isOfExam = exam?.begun && this.#shown()?.sequence >= exam.first;
    element("keep-still").disabled = !(isOfExam && pictured && STILL_WORKS.includes(tone));
    set("exam-text", this.#text(exam?.begun ? "end_exam" : "begin_exam"));
    press("exam", Boolean(exam?.begun));
    if (now - this.#answered > ANSWER_MS) set("answer", "");
  }

  /** Handles a key; returns whether it was one of the controls'. */
  key(event) {
    if (this.#facts?.role !== "operator") return false;
    if (this.#region.key(event)) return true;
    const keys = { r: () => this.#toggleRegion() };
    if (this.#facts.exams) Object.assign(keys, { s: () => this.#keepStill(), x: () => this.#openExam() });
    if (this.#region.active) {
      keys.escape = keys.r;
      keys.delete = keys.backspace = () => this.#clear();
      keys.m = () => this.#toggleRemember();
      if (this.#facts.follow) keys.f = () => this.#toggleFollow();
    }
    const action = keys[event.key.toLowerCase()];
    action?.();
    return Boolean(action);
  }

  async #give(command, done) {
    const refused = await this.#connection.give(command);
    this.#answer(refused === null ? this.#text(done) : this.#reason(refused), refused !== null);
  }

  #answer(words, refused) {
    this.#answered = performance.now();
    element("answer").dataset.refused = String(refused);
    set("answer", words);
  }

  #toggleRegion() {
    if (this.#region.active) this.#region.stop();
    else this.#region.start();
    show("region-bar", this.#region.active);
    press("toggle-region", this.#region.active);
  }

  async #mark() {
    const [box, screen] = [this.#region.box, this.#region.size];
    const [remember, follow] = [this.#remember, this.#follow];
    await this.#give({ do: "mark", box, screen, remember, follow }, "region_set");
    this.#region.settle();
  }

  async #clear() {
    if (!this.#known?.region) return;
    await this.#give({ do: "clear", screen: this.#region.size }, "region_cleared");
    this.#region.settle();
  }

  #toggleRemember() {
    this.#remember = !this.#remember;
    if (this.#known?.region) this.#mark();
  }

  #toggleFollow() {
    this.#follow = !this.#follow;
    if (this.#known?.region) this.#mark();
  }

  /** The box of the marked nodule where it is now, or null. */
  #followed() {
    return this.#shown()?.nodules.find(({ locator_score: score }) => score === 1)?.box ?? null;
  }

  #keepStill() {
    if (element("keep-still").disabled) {
      this.#answer(this.#text(this.#known?.exam?.begun ? "no_still" : "no_exam"), true);
      return;
    }
    const done = this.#known.exam.trouble ? "still_waits" : "still_kept";
    this.#give({ do: "still", sequence: this.#shown().sequence }, done);
  }

  #openExam() {
    const ends = Boolean(this.#known?.exam?.begun);
    show("identity", !ends);
    set("exam-title", this.#text(ends ? "end_exam" : "begin_exam"));
    set("exam-ok", this.#text(ends ? "end_exam" : "begin_exam"));
    element("exam-form").dataset.ends = String(ends);
    element("exam-fields").reset();
    this.#forgetChoice();
    show("worklist-field", !ends && Boolean(this.#facts?.worklist));
    show("worklist-note", false);
    if (!ends && this.#facts?.worklist) this.#askWorklist();
    element("exam-form").showModal();
    element(ends ? "exam-ok" : "patient-id").focus();
  }

  async #askWorklist() {
    this.#fillWorklist([], this.#text("worklist_asked"));
    const { refused, given } = await this.#connection.ask({ do: "worklist" });
    const { steps = [], more = false, unread = 0 } = given ?? {};
    const none = refused || unread ? "worklist_none" : "worklist_empty";
    this.#fillWorklist(steps, this.#text(steps.length ? "worklist_choose" : none));
    const notes = [];
    if (refused) notes.push(this.#reason(refused));
    if (more) notes.push(this.#text("worklist_more"));
    if (unread) notes.push(this.#text("worklist_unread").replace("{count}", unread));
    const note = notes.join(" · ");
    set("worklist-note", note);
    show("worklist-note", note !== "");
  }

  /** Offers steps, below the words `first`, which stand for none of them. */
  #fillWorklist(steps, first) {
    this.#steps = steps;
    const lines = steps.map(({ at, name, patient_id, accession, description }) => {
      const person = name.replaceAll("^", " ").replaceAll("=", " = ").trim();
      return [at.slice(11), person, patient_id, accession, description].filter(Boolean).join(" · ");
    });
    const options = lines.map((line, place) => new Option(line, String(place)));
    element("worklist").replaceChildren(new Option(first, ""), ...options);
  }

  /** Takes patient and study of the chosen step. */
  #choose() {
    const step = this.#steps[element("worklist").value];
    const fields = element("exam-fields").elements;
    for (const name of ["patient_id", "name", "accession", "birth_date", "study"]) {
      fields[name].value = step?.[name] ?? "";
    }
  }

  /** Leaves the worklist: birth date and study are of the chosen step alone. */
  #forgetChoice() {
    element("worklist").value = "";
    element("birth-date").value = element("study").value = "";
  }

  #changeExam() {
    const ends = element("exam-form").dataset.ends === "true";
    const identity = Object.fromEntries(new FormData(element("exam-fields")));
    element("exam-fields").reset();
    element("exam-form").close();
    if (ends) this.#give({ do: "end" }, "exam_ended");
    else this.#give({ do: "begin", identity }, "exam_begun");
  }
}
