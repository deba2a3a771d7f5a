/**
 * One ride, as its rider and its driver see it, through the gateway's one port.
 *
 *     examples/typescript/run.sh [URL]      # else $TAXI_URL, else http://127.0.0.1:8088
 *
 * Read it from top to bottom. The first half is what every client of taxi needs, whatever it is for:
 * a token, a deadline for each call, trying again, reading errors, streams that survive a broken
 * connection, and pages. The second half is the ride. What it does not expect ends it with an error.
 */

import { randomInt, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { DescEnum } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type CallOptions,
  type Client,
  Code,
  ConnectError,
  createClient,
  type Interceptor,
} from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "taxi-client/google/rpc/error_details_pb";
import {
  Allocation_StateSchema,
  AllocationService,
} from "taxi-client/taxi/allocation/v1/allocation_pb";
import {
  DashboardService,
  type WatchDrivingInfosResponse,
} from "taxi-client/taxi/dashboard/v1/dashboard_pb";
import { Driving_StateSchema, DrivingService } from "taxi-client/taxi/driving/v1/driving_pb";
import { MessageService } from "taxi-client/taxi/message/v1/message_pb";

/** How long one attempt may take, in milliseconds, and how often a call is tried. */
const DEADLINE = 10_000;
const ATTEMPTS = 8;
/** A stream has a deadline too, or a connection that died silently would keep it for ever. */
const STREAM_DEADLINE = 300_000;

type Unary<I, O> = (request: I, options?: CallOptions) => Promise<O>;
type Streaming<I, O> = (request: I, options?: CallOptions) => AsyncIterable<O>;

/** Somebody with a token, and how they call. */
class Caller {
  readonly allocations: Client<typeof AllocationService>;
  readonly drivings: Client<typeof DrivingService>;
  readonly dashboard: Client<typeof DashboardService>;
  readonly messages: Client<typeof MessageService>;

  private token = "";
  private renewal = 0;

  constructor(
    private readonly url: string,
    sessionManager: Http2SessionManager,
    private readonly role: string,
    readonly subject: string,
  ) {
    const interceptors = [this.identify];
    const transport = createGrpcTransport({ baseUrl: url, sessionManager, interceptors });
    this.allocations = createClient(AllocationService, transport);
    this.drivings = createClient(DrivingService, transport);
    this.dashboard = createClient(DashboardService, transport);
    this.messages = createClient(MessageService, transport);
  }

  /** Says who it is, in each attempt. A token is renewed when 90 % of its time are over. */
  private readonly identify: Interceptor = (next) => async (request) => {
    if (performance.now() >= this.renewal) {
      const { access_token, expires_in } = await getToken(this.url, this.role, this.subject);
      this.token = access_token;
      this.renewal = performance.now() + 0.9 * expires_in * 1000;
    }
    request.header.set("authorization", `Bearer ${this.token}`);
    request.header.set("accept-language", "en");
    return next(request);
  };

  /**
   * Calls, and calls again when that makes sense.
   *
   * The request is the same each time, its `requestId` included. That is what makes it safe: the
   * server does it once, even when its first answer was lost.
   */
  async call<I, O>(method: Unary<I, O>, request: I): Promise<O> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await method(request, { timeoutMs: DEADLINE });
      } catch (reason) {
        const error = ConnectError.from(reason);
        if (attempt === ATTEMPTS || !mayBeRepeated(error)) throw error;
        await wait(error, attempt);
      }
    }
  }

  /** All pages of a list. Everything but the token has to stay as it was. */
  async *pages<I extends { pageToken?: string }, O extends { nextPageToken: string }>(
    method: Unary<I, O>,
    request: I,
  ): AsyncGenerator<O> {
    let pageToken = "";
    do {
      const page = await this.call(method, { ...request, pageToken });
      yield page;
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }
}

/**
 * A stream that carries on where it was when it breaks. It ends when the server ends it.
 *
 * Every answer brings a `resumeToken`. A request with the last one of them goes on behind it. Changes
 * may be joined, and WatchOpenDrivings sends its whole list anew: forget the old one.
 */
class Watch<I extends { resumeToken?: string }, O extends { resumeToken: string }>
  implements AsyncIterable<O>, AsyncIterator<O>
{
  private resumeToken = "";
  private failures = 0;
  private opened = 0;
  private answered = false;
  private controller!: AbortController;
  private stream!: AsyncIterator<O>;

  constructor(
    private readonly method: Streaming<I, O>,
    private readonly request: I,
  ) {
    this.open();
  }

  private open(): void {
    this.controller = new AbortController();
    const request = { ...this.request, resumeToken: this.resumeToken };
    const options = { timeoutMs: STREAM_DEADLINE, signal: this.controller.signal };
    this.opened = performance.now();
    this.answered = false;
    this.stream = this.method(request, options)[Symbol.asyncIterator]();
  }

  /** A loop that is left does not end it: the next one goes on. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<O>> {
    for (;;) {
      try {
        const answer = await this.stream.next();
        if (answer.done) return answer;
        this.failures = 0;
        this.answered = true;
        this.resumeToken = answer.value.resumeToken;
        return answer;
      } catch (reason) {
        await this.carryOn(ConnectError.from(reason));
      }
    }
  }

  /** Opens it again, unless that makes no sense. */
  private async carryOn(error: ConnectError): Promise<void> {
    // That nothing has happened for a while is no failure. That it could not begin in time is.
    const began = this.answered || performance.now() - this.opened >= STREAM_DEADLINE;
    if (error.code !== Code.DeadlineExceeded || !began) {
      this.failures++;
      // Canceled: by `cut`, or by a proxy on the way.
      const repeat = mayBeRepeated(error) || error.code === Code.Canceled;
      if (this.failures === ATTEMPTS || !repeat) throw error;
      await wait(error, this.failures);
    }
    this.open();
  }

  /** Breaks it, as a tunnel does. */
  cut(): void {
    this.controller.abort();
  }

  /** Ends it. One that is left open would keep the process from ending, too. */
  async end(): Promise<void> {
    this.cut();
    await this.stream.next().catch(() => undefined);
  }
}

/** A token, and for how many seconds it is good. */
type Granted = { access_token: string; expires_in: number };

/** A token of the development issuer. A real identity provider has its own ways. */
async function getToken(url: string, role: string, subject: string): Promise<Granted> {
  const answer = await fetch(`${url}/oauth2/token`, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "client_credentials",
      client_id: subject,
      client_secret: "dev",
      scope: role,
    }),
    signal: AbortSignal.timeout(DEADLINE),
  });
  if (!answer.ok) throw new Error(`no token: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as Granted;
}

/**
 * Whether the same request may do better later.
 *
 * The server says so by `RetryInfo`. The two codes are also what our own side says when there was no
 * connection, or no answer in time. When a connection breaks it says `Aborted`, without a reason.
 */
function mayBeRepeated(error: ConnectError): boolean {
  const codes = [Code.Unavailable, Code.DeadlineExceeded];
  if (error.findDetails(ErrorInfoSchema).length === 0) codes.push(Code.Aborted);
  return error.findDetails(RetryInfoSchema).length > 0 || codes.includes(error.code);
}

/** Waits for as long as the server asks for, longer each time, and not all clients alike. */
async function wait(error: ConnectError, attempt: number): Promise<void> {
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  const asked = delay === undefined ? 0 : durationMs(delay);
  const pause = Math.max(asked, 100 * 2 ** attempt) * (1 + Math.random() / 2);
  console.error(`${codeName(error)}: again in ${(pause / 1000).toFixed(1)} s`);
  await sleep(pause);
}

/** The code of an error as it is called in all languages: INVALID_ARGUMENT. */
function codeName(error: ConnectError): string {
  return (Code[error.code] ?? "").replace(/\B[A-Z]/g, "_$&").toUpperCase();
}

/** An enum value as the protos call it. */
function nameOf(schema: DescEnum, value: number): string {
  return schema.value[value]?.name ?? String(value);
}

/** What shows the rides of somebody. */
type Rides = AsyncIterable<WatchDrivingInfosResponse>;

/** Reads changes of a ride until all these events have happened, and shows what is new. */
async function until(rides: Rides, seen: string[], ...wanted: string[]): Promise<void> {
  const known = seen.length;
  for await (const { drivingInfo } of rides) {
    const timeline = drivingInfo?.timeline.map((entry) => entry.event) ?? [];
    if (timeline.length <= seen.length) throw new Error(`told before: ${timeline}`);
    seen.splice(0, Infinity, ...timeline);
    if (wanted.every((event) => seen.includes(event))) break;
  }
  console.log(`  the rider sees ${seen.slice(known).join(", ")}`);
}

async function ride(url: string): Promise<void> {
  // One connection carries all calls to all services: HTTP/2, with TLS if it is https://.
  const connection = new Http2SessionManager(url);
  // Other people each time: a rider has one open ride at most, and data may be kept.
  const people = `${process.pid}-${randomInt(100_000)}`;
  const rider = new Caller(url, connection, "customer", `rider-${people}`);
  const driver = new Caller(url, connection, "driver", `driver-${people}`);

  console.log(
    "# A request that is not valid. The reason is for programs, the description for people.",
  );
  const nowhere = { requestId: randomUUID(), allocation: { destination: { address: "" } } };
  const refusal = await rider.call(rider.allocations.requestAllocation, nowhere).then(
    () => {
      throw new Error("a car to nowhere");
    },
    (reason) => ConnectError.from(reason),
  );
  if (refusal.code !== Code.InvalidArgument) throw refusal;
  console.log(`  ${codeName(refusal)} ${refusal.findDetails(ErrorInfoSchema)[0]?.reason}`);
  for (const { field, description } of refusal.findDetails(BadRequestSchema)[0]?.fieldViolations ??
    []) {
    console.log(`  ${field}: ${description}`);
  }

  console.log("\n# The rider asks for a car, and once more with the same id: it is the same ride.");
  const wish = {
    requestId: randomUUID(),
    allocation: { destination: { address: "Misa Station" } },
  };
  const asked = await rider.call(rider.allocations.requestAllocation, wish);
  const again = await rider.call(rider.allocations.requestAllocation, wish);
  console.log(`  ${asked.name} ${nameOf(Allocation_StateSchema, asked.state)}`);
  console.log(`  ${again.name} ${nameOf(Allocation_StateSchema, again.state)}`);

  console.log(
    "\n# The rider watches the ride. A driver watches all that are open, and accepts this one.",
  );
  const rides = new Watch(rider.dashboard.watchDrivingInfos, {});
  const seen: string[] = [];
  await until(rides, seen, "AllocationRequested", "DrivingOpened");
  const offers = new Watch(driver.drivings.watchOpenDrivings, {});
  let name = "";
  for await (const { driving } of offers) {
    if (driving?.allocation !== asked.name) continue;
    name = driving.name;
    break;
  }
  await offers.end();
  const accept = { name, requestId: randomUUID() };
  const accepted = await driver.call(driver.drivings.acceptDriving, accept);
  console.log(`  ${accepted.name} ${nameOf(Driving_StateSchema, accepted.state)}`);
  await until(rides, seen, "DrivingApproved");

  console.log("\n# The rider's connection breaks. The driver starts and finishes meanwhile.");
  rides.cut();
  const start = { name, requestId: randomUUID() };
  const started = await driver.call(driver.drivings.startDriving, start);
  console.log(`  ${started.name} ${nameOf(Driving_StateSchema, started.state)}`);
  const finish = { name, requestId: randomUUID() };
  const finished = await driver.call(driver.drivings.finishDriving, finish);
  console.log(`  ${finished.name} ${nameOf(Driving_StateSchema, finished.state)}`);
  console.log(`  ${finished.fare?.units} ${finished.fare?.currencyCode}`);

  console.log("\n# The watch carries on where it was: nothing is lost, and nothing comes twice.");
  await until(rides, seen, "DrivingFinished", "PaymentApproved", "DrivingPaymentSettled");
  await rides.end();

  console.log("\n# What the rider was told, by pages of two.");
  const parent = `customers/${rider.subject}`;
  const told = new Set<string>();
  const inbox = new Watch(rider.messages.watchMessages, { parent });
  for await (const { message } of inbox) {
    if (told.add(message?.name ?? "").size === 5) break;
  }
  await inbox.end();
  const messages = [];
  const sizes = [];
  for await (const page of rider.pages(rider.messages.listMessages, { parent, pageSize: 2 })) {
    sizes.push(page.messages.length);
    messages.push(...page.messages);
  }
  console.log(`  ${sizes.join(" + ")} messages`);
  // Newest first, but for two services that tell something at the same time.
  messages.sort((one, other) => one.template - other.template);
  for (const { text } of messages) console.log(`  ${text}`);
}

const given = process.argv[2] ?? process.env["TAXI_URL"] ?? "http://127.0.0.1:8088";
const url = given.replace(/\/$/, "");
await ride(url);
