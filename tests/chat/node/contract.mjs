// What the official Node SDK makes of a running chatbot: one JSON object on standard output, for test_node_sdk.py.
//   node contract.mjs <path of the installed SDK> <base URL> <token> <name of the bot>
import { createRequire } from "node:module";

const [home, baseURL, apiKey, bot] = process.argv.slice(2);
const OpenAI = createRequire(`${home}/`)("openai").default;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 30_000 });
const hello = [{ role: "user", content: "Hello there" }];

async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

async function refused(call) {
  try {
    await call();
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code, type: error.type, param: error.param };
  }
}

const responses = await all(client.responses.create({ model: bot, input: "Hello there", stream: true }));
const stored = responses.at(-1).response.id;
const background = await client.responses.create({ model: "endless", input: "Hello there", background: true });
const followed = [];
const stream = await client.responses.retrieve(background.id, { stream: true });
for await (const event of stream) {
  followed.push(event);
  if (followed.length === 8) break;
}
const cancelled = await client.responses.cancel(background.id);
const last = followed.at(-1).sequence_number;
const resumed = await all(client.responses.retrieve(background.id, { stream: true, starting_after: last }));

const add = { type: "function", name: "add", parameters: { type: "object", properties: {} }, strict: false };
const called = await client.responses.create({ model: "agent", input: '[[["add", {"a": 1}]]]', tools: [add] });
const given = await client.responses.create({
  model: "agent", tools: [add], previous_response_id: called.id,
  input: [{ type: "function_call_output", call_id: called.output[0].call_id, output: "42" }],
});
await client.responses.delete(given.id);

const found = {
  models: (await all(client.models.list())).map((model) => model.id),
  whole: await client.chat.completions.create({ model: bot, messages: hello }),
  raw: await client.chat.completions.create({ model: "echo", messages: hello }),
  chunks: await all(
    client.chat.completions.create({
      model: "echo", messages: hello, stream: true, stream_options: { include_usage: true },
    }),
  ),
  accumulated: await client.chat.completions.stream({ model: bot, messages: hello }).finalContent(),
  response: await client.responses.create({ model: "echo", input: "Hello there", store: false }),
  responses,
  final: (await client.responses.stream({ model: "echo", input: "Hello there" }).finalResponse()).output_text,
  retrieved: await client.responses.retrieve(stored),
  cancelled,
  followed,
  resumed,
  called: called.output[0].arguments,
  given: given.output_text,
  embedding: (await client.embeddings.create({ model: "all-MiniLM-L6-v2", input: "Hello" })).data[0].embedding.length,
  errors: {
    model: await refused(() => client.chat.completions.create({ model: "gpt-99", messages: hello })),
    messages: await refused(() => client.chat.completions.create({ model: "echo", messages: [] })),
    deleted: await refused(() => client.responses.retrieve(given.id)),
    response: await refused(() => client.responses.retrieve("resp_0")),
    provider: await refused(() => client.chat.completions.create({ model: "refuse", messages: hello })),
    stream: await refused(() => all(client.chat.completions.create({ model: "cut", messages: hello, stream: true }))),
    token: await refused(() => new OpenAI({ baseURL, apiKey: "nonsense", maxRetries: 0 }).models.list()),
  },
};
console.log(JSON.stringify(found));
