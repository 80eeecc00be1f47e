// Server-sent events over fetch: an EventSource can carry no token, and says nothing of why it failed.

import { headers, refusal } from "./api.js";

//: Twice the heartbeat and some: what is silent for longer is dead, whatever the connection says.
const SILENCE = 60_000;
const LONGEST = 15_000;
const HIDDEN = 20_000;

/** Split a stream of text into events, by the rules of the HTML standard. */
export class Parser {
  constructor(hear) {
    this.hear = hear;
    this.rest = "";
    this.begin();
  }
  begin() {
    this.name = "";
    this.data = [];
  }
  feed(text) {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop();
    for (const one of lines) this.line(one);
  }
  line(text) {
    if (text === "") {
      if (this.data.length) this.hear({ name: this.name || "message", id: this.id, data: this.data.join("\n") });
      this.begin();
      return;
    }
    const at = text.indexOf(":");
    if (at === 0) return;
    const field = at < 0 ? text : text.slice(0, at);
    const value = at < 0 ? "" : text.slice(at + 1).replace(/^ /, "");
    if (field === "event") this.name = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
  }
}

/**
 * Follow events until `close()`. `tell(state, why)` hears "live", "lost" and "refused"; `hear(name, data, id)` each event;
 * `again()` is called whenever a connection stands, so that what was missed is read anew.
 */
export class Stream {
  constructor(path, { hear, tell, again }) {
    this.path = path;
    this.hear = hear;
    this.tell = tell;
    this.again = again;
    this.last = "";
    this.tries = 0;
    this.isClosed = false;
    this.seen = () => this.look();
    document.addEventListener("visibilitychange", this.seen);
    addEventListener("online", this.seen);
    this.gone = () => this.cut("offline");
    addEventListener("offline", this.gone);
    this.run();
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.hiding);
    document.removeEventListener("visibilitychange", this.seen);
    removeEventListener("online", this.seen);
    removeEventListener("offline", this.gone);
    this.cut("closed");
    this.wake?.();
  }

  // Browsers have six connections to a host: tabs that nobody looks at give theirs back.
  look() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.cut("hidden"), HIDDEN);
    else this.wake?.();
  }

  cut(why) {
    this.why = why;
    this.control?.abort();
  }

  async run() {
    while (!this.isClosed) {
      const said = await this.once();
      if (this.isClosed) return;
      if (/** @type {any} */ (said)?.isForSomebodyElse) {
        this.tell("refused", said.message);
        return;
      }
      if (this.why !== "hidden") this.tell("lost", said?.message ?? (this.why === "offline" ? "this device is offline" : "the connection ended"));
      await this.rest();
    }
  }

  // Each waits a little longer than before, by chance: a thousand boards must not come back in one moment.
  async rest() {
    const longest = Math.min(500 * 2 ** this.tries, LONGEST);
    this.tries += 1;
    await new Promise((done) => {
      this.wake = done;
      if (!document.hidden || this.why !== "hidden") setTimeout(() => (document.hidden ? null : done()), longest * (0.5 + Math.random() / 2));
    });
    this.wake = null;
  }

  async once() {
    this.why = "";
    this.control = new AbortController();
    let silence = setTimeout(() => this.cut("silent"), SILENCE);
    try {
      const more = this.last ? { "last-event-id": this.last } : {};
      const answer = await fetch(this.path, {
        headers: headers({ accept: "text/event-stream", ...more }),
        credentials: "same-origin",
        cache: "no-store",
        signal: this.control.signal,
      });
      if (!answer.ok) return await refusal(answer);
      this.tell("live");
      this.again?.();
      const parser = new Parser((event) => {
        let data;
        try {
          data = JSON.parse(event.data);
        } catch {
          return; // not ours: a later version may send other things
        }
        this.hear(event.name, data, event.id);
      });
      const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await text.read();
        if (done) return null;
        this.tries = 0;
        clearTimeout(silence);
        silence = setTimeout(() => this.cut("silent"), SILENCE);
        parser.feed(value);
        if (parser.id) this.last = parser.id;
      }
    } catch (error) {
      return error.name === "AbortError" ? null : new Error("the gateway cannot be reached");
    } finally {
      clearTimeout(silence);
      this.control.abort();
    }
  }
}
