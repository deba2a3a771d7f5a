// What a web page does with a gateway that is at another origin. What went well is posted to /report,
// line by line, and what did not is the last line.

import { KINDS, call, fields, text } from "./grpc-web.js";
import { events } from "./events.js";

const NAME = 1;
const STATE = 5;
const [APPROVED, CANCELLED] = [2, 6];

const { gateway, through, customer, driver } = await (await fetch("setup")).json();
const lines = [];
try {
  await all();
} catch (error) {
  lines.push(`failed: ${error.stack}`);
}
await fetch("report", { method: "POST", body: lines.join("\n") });

async function all() {
  const asked = await rest(customer, "POST", "/v1/allocations", { destination: { address: "미사역" } });
  const { name, state } = asked.json;
  expect(asked.status, 200);
  expect(asked.headers.has("x-taxi-consistency-token"), true);
  lines.push(`asked: ${state}`);

  const missing = await rest(customer, "GET", "/v1/allocations/019a0000-0000-7000-8000-000000000000");
  lines.push(`refused: ${missing.status} ${missing.json.details[0].reason}`);

  for (const kind of KINDS) {
    const [message] = await everything(rpc("GetAllocation", kind, name));
    expect(new TextDecoder().decode(fields(message)[NAME]), name);
    const unknown = everything(rpc("GetAllocation", kind, "allocations/1"));
    lines.push(`${kind}: got it; ${await unknown.catch((error) => error.message)}`);
  }

  await watchedByEvents(name);

  const watches = KINDS.map((kind) => rpc("WatchAllocation", kind, name));
  for (const watch of watches) expect(stateOf((await watch.next()).value), APPROVED);
  const cancelled = await rest(customer, "POST", `/v1/${name}:cancel`, {});
  lines.push(`cancelled: ${cancelled.json.state}`);
  for (const [nth, watch] of watches.entries()) {
    const changes = await everything(watch);
    expect(stateOf(changes.at(-1)), CANCELLED);
    lines.push(`${KINDS[nth]}: watched to its end`);
  }
  lines.push(`a page of no origin: ${await sandboxed(`${gateway}/openapi.json`)}`);
}

/** The connection is cut after the first event, and what happens meanwhile is not missed. */
async function watchedByEvents(name) {
  let cuts = 0;
  const seen = [];
  for await (const event of events(`${through}/v1/${name}:watch`, customer, () => (cuts += 1))) {
    const { allocation } = JSON.parse(event.data);
    if (seen.at(-1) !== allocation.state) seen.push(allocation.state);
    if (allocation.state === "STATE_APPROVED") break;
    if (cuts === 0) {
      await fetch("cut", { method: "POST" });
      await accepted(name);
      await fetch("heal", { method: "POST" });
    }
  }
  lines.push(`events: ${seen.join(", ")}; ${cuts > 0 ? "cut" : "never cut"}`);
}

/** A driver takes the ride. */
async function accepted(allocation) {
  for (;;) {
    const open = await rest(driver, "GET", "/v1/drivings");
    const driving = open.json.drivings.find((driving) => driving.allocation === allocation);
    if (driving) {
      const answer = await rest(driver, "POST", `/v1/${driving.name}:accept`, {});
      return expect(answer.status, 200);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function rest(token, method, path, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const response = await fetch(gateway + path, { method, headers, body: JSON.stringify(body) });
  return { status: response.status, headers: response.headers, json: await response.json() };
}

function rpc(method, kind, name) {
  const url = `${gateway}/taxi.allocation.v1.AllocationService/${method}`;
  return call(url, kind, customer, text(NAME, name));
}

/** The state of the allocation in an element of WatchAllocation. */
function stateOf(element) {
  return fields(fields(element)[1])[STATE];
}

async function everything(stream) {
  const messages = [];
  for await (const message of stream) messages.push(message);
  return messages;
}

/** What becomes of a request of a page that is not allowed. */
function sandboxed(url) {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = `<script>
    const said = (word) => parent.postMessage(word, "*");
    fetch("${url}").then(() => said("let in"), () => said("kept out"));
  </script>`;
  const said = new Promise((done) => addEventListener("message", ({ data }) => done(data)));
  document.body.append(frame);
  return said;
}

function expect(found, wanted) {
  if (found !== wanted) throw new Error(`${found} instead of ${wanted}`);
}
