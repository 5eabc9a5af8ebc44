// The stream of messages from the server: see edge_runtime/view/message.py for their form.

const RETRY_MS = [250, 500, 1000, 2000];
const CLOCK_INTERVAL_MS = 1000;
const CLOCK_READINGS = 10;
const NEAR_MS = 10; // to the server and back
const FULL = 1013; // codes that close a WebSocket (its registry at IANA)
const ENDS = 1012;

/** The server's monotonic clock, learnt from answers: the one that came soonest is the best. */
class ServerClock {
  #readings = [];

  add(sent, received, server) {
    const offset = 1000 * server - (sent + received) / 2;
    this.#readings.push({ trip: received - sent, offset });
    if (this.#readings.length > CLOCK_READINGS) this.#readings.shift();
  }

  /** The offset of the server's clock, and how wrong it may be, in ms; null before an answer. */
  get best() {
    if (!this.#readings.length) return null;
    const { trip, offset } = this.#readings.reduce((a, b) => (b.trip < a.trip ? b : a));
    return { offset, error: trip / 2 };
  }
}

/** Keeps a WebSocket to the server open. Each handler is called with what its name says. */
export class Connection {
  #socket = null;
  #failures = 0;
  #clock = new ServerClock();
  #kept = false; // whether a confirmation is kept back
  #commands = 0;
  #answers = new Map(); // by the number of a command: what takes its answer
  #gone = "gone"; // why the server does not answer

  constructor({ onFacts, onStatus, onResult, onSign, onEnd, token }) {
    Object.assign(this, { onFacts, onStatus, onResult, onSign, onEnd, token });
    setInterval(() => this.#send(`clock ${Math.round(performance.now())}`), CLOCK_INTERVAL_MS);
    this.#open();
  }

  /**
   * Tells the server that a message is dealt with, so that it sends another. The server sends two
   * ahead, because of the way. From a near server the second would only wait here, and grow old: one
   * confirmation is kept back.
   */
  confirm() {
    const near = this.#clock.best?.error < NEAR_MS / 2;
    if (near === this.#kept) this.#send("drawn");
    else if (!near) ["drawn", "drawn"].forEach((text) => this.#send(text));
    this.#kept = near;
  }

  /** Gives a command to the session. Resolves to null once it is done, else to why it is not. */
  async give(command) {
    return (await this.ask(command)).refused;
  }

  /** Asks for something. Resolves to why it is refused, else null, and to what is given. */
  ask(command) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return Promise.resolve({ refused: "gone" });
    const id = this.#commands++;
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.#send(JSON.stringify({ id, command }));
    return answer;
  }

  /** How old a moment of the server's clock is, in ms, and how wrong that may be; or null. */
  age(moment) {
    const best = this.#clock.best;
    return best && { age: performance.now() + best.offset - 1000 * moment, error: best.error };
  }

  async #open() {
    let refused = false;
    if (this.token) {
      try {
        const answer = await fetch("/cookie", { method: "POST", body: this.token });
        refused = !answer.ok;
        this.token = null;
      } catch {
        return this.#retry(this.#gone); // the server does not answer: the token is still good
      }
    }
    if (refused) return this.onEnd("refused");
    const socket = new WebSocket(`${location.protocol.replace("http", "ws")}//${location.host}/stream`);
    let opened = false;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      opened = true;
      this.#failures = 0;
      this.#gone = "gone";
      this.#clock = new ServerClock();
      this.#kept = false;
      this.#send(`clock ${Math.round(performance.now())}`);
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = async ({ code }) => {
      for (const resolve of this.#answers.values()) resolve({ refused: "gone" });
      this.#answers.clear();
      if (code === FULL) return this.#retry("full");
      if (code === ENDS) this.#gone = "over";
      if (opened) return this.#retry(this.#gone);
      // The browser does not say why it failed: a server that answers has refused the cookie.
      const answers = await fetch("/languages.json").then((a) => a.ok, () => false);
      this.#retry(answers ? "refused" : this.#gone);
    };
    this.#socket = socket;
  }

  #retry(why) {
    this.onEnd(why);
    const wait = RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)];
    setTimeout(() => this.#open(), wait);
  }

  #send(text) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text);
  }

  #receive(data) {
    this.onSign();
    if (typeof data === "string") {
      const { clock, facts, status, answer } = JSON.parse(data);
      if (clock) this.#clock.add(clock[0], performance.now(), clock[1]);
      if (facts) this.onFacts(facts);
      if (status) this.onStatus(status);
      if (answer) {
        this.#answers.get(answer.id)?.(answer);
        this.#answers.delete(answer.id);
      }
      return;
    }
    const length = new DataView(data).getUint32(0);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    this.onResult(head, new Uint8Array(data, 4 + length));
  }
}
