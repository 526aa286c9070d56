/**
 * Server-sent events from a fetch body (EventSource can neither POST nor send a token).
 * WHATWG HTML, 9.2.6: lines end in CR, LF or CRLF; a blank line dispatches; a colon starts a comment.
 */

/** @returns {AsyncGenerator<{id: string, event: string, data: string}>} */
export async function* events(stream) {
  const parser = new Parser();
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export class Parser {
  #rest = "";
  #event = "";
  #data = [];
  #id = "";

  /** Events completed by this piece of text. */
  *push(text) {
    this.#rest += text;
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(this.#rest); // a CR at the very end may be half of a CRLF
      if (!end) return;
      const line = this.#rest.slice(0, end.index);
      this.#rest = this.#rest.slice(end.index + end[0].length);
      if (line === "") yield* this.#dispatch();
      else this.#field(line);
    }
  }

  *#dispatch() {
    if (this.#data.length) yield { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") };
    this.#event = "";
    this.#data = [];
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id") this.#id = value;
  }
}
