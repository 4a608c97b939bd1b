// Durable steps per second of Restate, one JSON object on stdout.
//
// An agent is an invocation of a handler; a step is a `ctx.run` that returns incompressible text,
// which is in the server's log, synced, before the handler goes on. The server runs with 8
// partitions in a folder of its own, everything else is as it comes.

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import * as restate from "@restatedev/restate-sdk";

const VERSION = "1.7.12";

const { values: given } = parseArgs({
  options: {
    agents: { type: "string", default: "64" },
    steps: { type: "string", default: "200" },
    payload: { type: "string", default: "2048" },
  },
});
const [agents, steps, payload] = [given.agents, given.steps, given.payload].map(Number);

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

async function bytesOf(folder) {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    // Allocated blocks: the server reserves the length of its log ahead.
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).blocks * 512;
  }
  return bytes;
}

async function until(what, attempt) {
  for (let tries = 0; tries < 300; tries++) {
    try {
      const answer = await attempt();
      if (answer.ok) return answer;
    } catch {
      // It is not up yet.
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${what} did not come up within 30 s`);
}

const taken = [];
const agent = restate.service({
  name: "agent",
  handlers: {
    run: async (ctx, count) => {
      for (let n = 0; n < count; n++) {
        const began = performance.now();
        await ctx.run("say", () => randomBytes(payload).toString("base64url").slice(0, payload));
        taken.push(performance.now() - began);
      }
      return count;
    },
  },
});

const folder = await mkdtemp(join(tmpdir(), "restate-"));
const [ingress, admin, node, own] = [await freePort(), await freePort(), await freePort(), await freePort()];
const server = spawn("restate-server", ["--base-dir", folder, "--node-name", "bench"], {
  env: {
    ...process.env,
    RESTATE_DEFAULT_NUM_PARTITIONS: "8",
    RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
    RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
    RESTATE_BIND_ADDRESS: `127.0.0.1:${node}`,
    RESTATE_ADVERTISED_ADDRESS: `http://127.0.0.1:${node}/`,
    DO_NOT_TRACK: "1",
  },
  stdio: ["ignore", "pipe", "pipe"],
  // A group of its own: what npm installs is a script that starts the server.
  detached: true,
});
server.stdout.pipe(createWriteStream(join(folder, "stdout.log")));
server.stderr.pipe(process.stderr);
let ended = 1;
try {
  await restate.endpoint().bind(agent).listen(own);
  await until("the server", () => fetch(`http://127.0.0.1:${admin}/health`));
  await until("the service", () =>
    fetch(`http://127.0.0.1:${admin}/deployments`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ uri: `http://127.0.0.1:${own}` }),
    }),
  );
  const empty = await bytesOf(folder);
  const run = async (count) => {
    const answer = await fetch(`http://127.0.0.1:${ingress}/agent/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(count),
    });
    const done = await answer.json();
    if (done !== count) throw new Error(`an agent answered ${JSON.stringify(done)}`);
  };
  await until("an agent", async () => (await run(1), { ok: true }));
  taken.length = 0;
  const began = performance.now();
  await Promise.all(Array.from({ length: agents }, () => run(steps)));
  const seconds = (performance.now() - began) / 1000;
  const used = (await bytesOf(folder)) - empty;
  taken.sort((a, b) => a - b);
  const total = agents * steps;
  const report = {
    peer: "restate",
    version: VERSION,
    store: "restate",
    agents,
    steps,
    payload,
    steps_per_s: Number((total / seconds).toFixed(1)),
    p50_ms: Number(taken[Math.floor(taken.length / 2)].toFixed(2)),
    p99_ms: Number(taken[Math.floor((taken.length * 99) / 100)].toFixed(2)),
    bytes_per_step: Math.round(used / total),
  };
  console.log(JSON.stringify(report));
  ended = 0;
} finally {
  process.kill(-server.pid, "SIGKILL");
  await rm(folder, { recursive: true, force: true });
}
process.exit(ended);
