/**
 * An answer as a value: what it is after each event of its run, or as it is stored. Pure; the page only draws it.
 *
 * `tools` are its calls in the order in which they were made: `{id, name, arguments, state, result}`, all texts of a
 * model or a tool. `state` is running, asked (the user must agree first), completed, failed, declined or stopped.
 */

export const EMPTY = Object.freeze({
  status: "running", // completed, failed, cancelled, interrupted or requires_action once it has ended
  text: "",
  tools: [],
  citations: [],
  error: null, // {type, title} of one that failed
  reason: null, // length or content_filter, of one that is completed and yet not whole
  run: null,
  conversation: null,
  question: null,
  message: null, // these four are ids
  rating: null, // {rating, comment}
});

/** The answer after an event. Those it does not know change nothing: later servers send more. */
export function reduce(answer, event) {
  switch (event.type) {
    case "run.started":
      return {
        ...EMPTY, run: event.run_id, conversation: event.conversation_id,
        question: event.user_message_id, message: event.message_id,
      };
    case "run.snapshot": return { ...answer, text: event.text, tools: toolsOf(event.parts), citations: [] };
    case "text.delta": return { ...answer, text: answer.text + event.text };
    case "text.replaced": return { ...answer, text: event.text };
    case "tool.started": return called(answer, event, "running");
    case "tool.approval": return called(answer, event, "asked");
    case "tool.finished": return called(answer, event, event.status, event.content);
    case "citation":
      return { ...answer, citations: [...answer.citations.filter(({ index }) => index !== event.index), event] };
    case "run.finished": return ended({ ...answer, text: event.content || answer.text, reason: event.finish_reason ?? null }, "completed", event);
    case "run.failed": return ended({ ...answer, error: event.error ?? null }, "failed", event);
    case "run.cancelled": return ended(answer, "cancelled", event);
    case "run.interrupted": return ended(answer, "interrupted", event);
    default: return answer;
  }
}

/** A message of an answer as `GET …/messages` gives it. */
export function stored(message) {
  const answer = {
    ...EMPTY, text: message.text, tools: toolsOf(message.parts ?? []), citations: message.citations ?? [],
    error: message.error ? errorOf(message.error) : null, reason: message.finish_reason ?? null, conversation: message.conversation_id,
    question: message.parent_id, message: message.id, rating: message.feedback ?? null,
  };
  return ended(answer, message.status);
}

/** What the user has just said to a call that waited. */
export const decided = (answer, id, approved) => ({
  ...answer, tools: answer.tools.map((tool) => (tool.id === id ? { ...tool, state: approved ? "running" : "declined" } : tool)),
});

function ended(answer, status, { conversation_id: conversation, message_id: message } = {}) {
  const state = status === "requires_action" ? "asked" : "stopped";
  const tools = answer.tools.map((tool) => (["running", "asked"].includes(tool.state) ? { ...tool, state } : tool));
  return {
    ...answer, status, tools,
    conversation: conversation ?? answer.conversation, message: message ?? answer.message,
  };
}

/** Once for each call: one that waited for the user is told again when it is made. */
function called(answer, { tool_call_id: id, name, arguments: given }, state, result) {
  const known = answer.tools.find((tool) => tool.id === id) ?? { id, name, arguments: given ?? "", result: null };
  const tool = { ...known, state, result: result ?? known.result };
  const at = answer.tools.findIndex((other) => other.id === id);
  return { ...answer, tools: at < 0 ? [...answer.tools, tool] : answer.tools.with(at, tool) };
}

function toolsOf(parts) {
  const events = { tool_call: "tool.started", tool_result: "tool.finished" };
  return parts.filter(({ type }) => type in events)
    .reduce((answer, part) => reduce(answer, { ...part, type: events[part.type] }), EMPTY).tools;
}

/** A stored error is `kind: title`. */
function errorOf(text) {
  const [, kind, title] = /^([a-z-]+): (.*)$/s.exec(text) ?? [null, "", text];
  return { type: `urn:chatbot:problem:${kind}`, title };
}
