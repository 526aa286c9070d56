/**
 * One question and its run: sends it or goes back to it, follows the events, goes on where a torn stream left off, and stops it.
 * Knows nothing of the page; it reports to the callbacks it is given.
 */

import { Failure, inWords, open, post } from "./api.js";
import { events } from "./sse.js";

const END = new Set(["run.finished", "run.failed", "run.cancelled", "run.interrupted"]);
const PAUSES_MS = [500, 1500, 4000];
const STOP_MS = 3000;

/** Names a question: sent again under the same name it is not stored twice. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

export class Run {
  #abort = new AbortController();
  #last = { attempt: 0, seq: 0 };
  #ended = false;
  #stopping = false;
  #patience = null; // the timer of a stop that the server does not answer
  #asked = [];
  id = null;

  /**
   * @param {(event: object) => void} onEvent gets each event's data once, in order
   * @param {(call: object) => Promise<boolean>} onQuestion says whether a tool may be called
   */
  constructor(onEvent, onQuestion) {
    this.onEvent = onEvent;
    this.onQuestion = onQuestion;
  }

  /** Resolves when the run has ended, however it ended. Throws `Failure` when it could not be started or followed. */
  ask(route, body) {
    return this.#toTheEnd(async () => {
      const response = await open("POST", route, { body, accept: "text/event-stream", signal: this.#abort.signal });
      await this.#follow(response).catch(this.#unlessTorn);
    });
  }

  /** The same for a run that was started before, from its first event on. */
  watch(id) {
    this.id = id;
    return this.#toTheEnd(() => this.#resume().catch(this.#unlessTorn));
  }

  async #toTheEnd(begin) {
    try {
      await begin();
      do {
        if (this.#asked.length) await this.#answer();
        for (const pause of PAUSES_MS) {
          if (this.#ended || this.#asked.length || !this.id) break;
          await new Promise((resume) => setTimeout(resume, pause));
          await this.#resume().catch(this.#unlessTorn);
        }
      } while (this.#asked.length);
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    } finally {
      clearTimeout(this.#patience);
    }
    if (!this.#ended && !this.#stopping) {
      throw new Failure("The connection was lost while the answer was coming in.", { retryable: true });
    }
    if (!this.#ended) this.onEvent({ type: "run.cancelled" });
  }

  /** Asks the server to stop; what was written so far stays. */
  stop() {
    this.#stopping = true;
    if (!this.id) return this.#abort.abort();
    post(`/api/v1/chat/runs/${this.id}/cancel`).catch(() => this.#abort.abort());
    this.#patience = setTimeout(() => this.#abort.abort(), STOP_MS);
  }

  /** Looks away without stopping: the server finishes and stores the answer. */
  leave() {
    this.#stopping = true;
    this.#abort.abort();
  }

  /** Asks the user about each call that waits for it; with the last answer the run goes on. */
  async #answer() {
    const { signal } = this.#abort;
    const left = new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(new DOMException("Left", "AbortError")), { once: true });
    });
    left.catch(() => {});
    const asked = this.#asked.splice(0);
    for (const call of asked) {
      const approved = await Promise.race([this.onQuestion(call), left]);
      const path = `/api/v1/chat/runs/${this.id}/approvals/${encodeURIComponent(call.tool_call_id)}`;
      const accept = call === asked.at(-1) ? "text/event-stream" : "application/json";
      const response = await open("POST", path, { body: { approved }, accept, signal });
      if (call === asked.at(-1)) await this.#follow(response).catch(this.#unlessTorn);
    }
  }

  async #resume() {
    const { attempt, seq } = this.#last;
    const response = await open("GET", `/api/v1/chat/runs/${this.id}/events?after=${attempt}-${seq}`, {
      accept: "text/event-stream", signal: this.#abort.signal,
    });
    await this.#follow(response);
  }

  #unlessTorn = (error) => {
    if (error.name === "AbortError" || (error instanceof Failure && !error.retryable)) throw error;
  };

  async #follow(response) {
    for await (const { event, data } of events(response.body)) {
      const found = JSON.parse(data);
      if (event === "error") throw inWords(found.error ?? found);
      this.#take(found);
      if (this.#ended || (found.type === "tool.approval" && !found.more)) return;
    }
  }

  #take(event) {
    const { attempt = 0, seq = 0 } = event;
    const known = attempt < this.#last.attempt || (attempt === this.#last.attempt && seq <= this.#last.seq);
    if (known && seq && event.type !== "run.snapshot") return;
    this.#last = { attempt, seq };
    if (event.run_id) this.id = event.run_id;
    if (END.has(event.type)) this.#ended = true;
    if (event.type === "tool.approval") this.#asked.push(event);
    this.onEvent(event);
  }
}
