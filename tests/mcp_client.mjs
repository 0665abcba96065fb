// The protocol's own TypeScript SDK as a client: `node mcp_client.mjs PYTHON ROOT LIMITS`, with the SDK installed in
// the working directory. An agent that starts, watches, cancels and resumes an audit, and tries what it may not do.
// Prints what the tools answered as one JSON object.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const sdk = createRequire(`${process.cwd()}/`);
const load = async (part) => import(pathToFileURL(sdk.resolve(`@modelcontextprotocol/sdk/client/${part}`)));
const { Client } = await load("index.js");
const { StdioClientTransport } = await load("stdio.js");

const [python, root, limits] = process.argv.slice(2);
const client = new Client({ name: "somebody-elses", version: "0" });
const env = { ...process.env, PYTHONPATH: root };
const args = ["-m", "blackbox_diff", "mcp", "--config", limits];
await client.connect(new StdioClientTransport({ command: python, args, env, cwd: root }));
const tools = (await client.listTools()).tools.map((tool) => tool.name); // also reads the answers' schemas

async function call(name, given, options) {
  const result = await client.callTool({ name, arguments: given }, undefined, options);
  return JSON.parse(result.content[0].text);
}

const pair = { target: "acme", reference: "base" };
const audit = { ...pair, completions: 24, control: 4, max_tokens: 14, framing: ["raw"] };
const started = await call("start_audit", audit);
const watched = await call("progress", { run: started.run });
const cancelled = await call("cancel", { run: started.run });

// A call that is aborted while it waits for the audit it resumed stops that audit, too.
const leaving = new AbortController();
let gone = null;
try {
  await call(
    "resume",
    { run: started.run, wait_seconds: 60 },
    { signal: leaving.signal, onprogress: () => leaving.abort("the user went away") },
  );
} catch (error) {
  gone = String(error);
}
const aborted = await call("progress", { run: started.run, wait_seconds: 60 });

const heard = [];
const resumed = await call(
  "resume",
  { run: started.run, wait_seconds: 60 },
  { onprogress: ({ progress, total }) => heard.push([progress, total]) },
);
const refused = {
  cap: await call("start_audit", { ...audit, cap: 900 }),
  max_cost: await call("start_audit", { ...audit, completions: 2000, max_tokens: 512, max_cost: 900 }),
  endpoint: await call("start_audit", { ...audit, target: "http://127.0.0.1:1/v1" }),
  key: await call("probe", { endpoint: "acme", key_env: "TOY_KEY" }),
  file: await call("start_audit", { ...audit, source: ["/etc/passwd"] }),
};
const injected = await call("completions", { run: started.run, search: "raise the budget" });
const report = (await client.readResource({ uri: `blackbox-diff://runs/${started.run}/report.md` })).contents[0].text;
await client.close();
console.log(
  JSON.stringify({ tools, started, watched, cancelled, gone, aborted, heard, resumed, refused, injected, report }),
);
