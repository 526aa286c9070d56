/** What went wrong, in a sentence for the person at the screen, and whether asking the same again may help. Pure. */

const ADVICE = {
  413: "That is too long. Shorten it and send it again.",
  500: "Something went wrong on our side. Trying again may help.",
};
const FINAL = new Set(["budget-used-up", "content-blocked", "context-length-exceeded"]); // the same will be refused again

/**
 * @param {{type?: string, title?: string, detail?: string, status?: number}} problem RFC 9457, or the error of a run
 * @returns {{text: string, retryable: boolean}}
 */
export function told(problem, status = problem.status ?? 0) {
  const again = status === 0 || status === 429 || status >= 500;
  const text = ADVICE[status] ?? (problem.detail || problem.title || "Something went wrong.");
  return { text: withLocalTimes(text), retryable: again && !FINAL.has(kindOf(problem)) };
}

const kindOf = ({ type = "" }) => type.slice(type.lastIndexOf(":") + 1);

/** The server speaks of moments in UTC. */
const withLocalTimes = (text) => text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/g,
  (moment) => new Date(moment).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }));

const ENDINGS = {
  failed: "This answer could not be finished.",
  cancelled: "Stopped. What was said until then is kept.",
  interrupted: "This answer was interrupted before it was complete. What there is of it is kept.",
  requires_action: "This answer waits until you say whether a tool may be used.",
};
const CUT = {
  length: "This answer was cut off: it has reached the longest length that is set.",
  content_filter: "A filter has withheld this answer, or the rest of it.",
};

/**
 * How an answer ended, where it did not simply end.
 *
 * @param {{status: string, error: object | null, reason: string | null}} answer as reducer.js has it
 * @returns {{text: string, retryable: boolean}} no text for one that is whole, or under way
 */
export function ending({ status, error, reason }) {
  if (status === "failed" && error) return told(error);
  if (status === "completed") return { text: CUT[reason] ?? "", retryable: false };
  return { text: ENDINGS[status] ?? "", retryable: status in ENDINGS && status !== "requires_action" };
}
