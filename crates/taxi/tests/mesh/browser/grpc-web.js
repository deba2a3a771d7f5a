// gRPC-Web without a library: what a page needs of it fits on one screen.

const BINARY = "application/grpc-web+proto";
const TEXT = "application/grpc-web-text+proto";
export const KINDS = [BINARY, TEXT];

/** Calls an rpc; yields its messages, and throws unless its status is OK. */
export async function* call(url, kind, token, message, signal) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": kind, accept: kind, "x-grpc-web": "1", authorization: `Bearer ${token}` },
    body: kind === TEXT ? btoa(String.fromCharCode(...framed(message))) : framed(message),
    signal,
  });
  let status = response.headers.get("grpc-status");
  for await (const frame of frames(kind === TEXT ? decoded(response.body) : response.body)) {
    if (frame.isTrailers) {
      status = /grpc-status: *(\d+)/.exec(new TextDecoder().decode(frame.bytes))[1];
    } else {
      yield frame.bytes;
    }
  }
  if (status !== "0") throw new Error(`grpc-status ${status}`);
}

/** A message with one text in it: all that our requests have. */
export function text(number, value) {
  const bytes = new TextEncoder().encode(value);
  if (bytes.length > 127) throw new Error("longer than a length of one byte");
  return Uint8Array.of((number << 3) | 2, bytes.length, ...bytes);
}

/** The fields of a message by their numbers: numbers, and bytes of everything else. */
export function fields(bytes) {
  const found = {};
  let at = 0;
  const varint = () => {
    for (let value = 0, factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const some = (length) => bytes.slice(at, (at += length));
  while (at < bytes.length) {
    const key = varint();
    const kind = key & 7;
    found[key >>> 3] = kind === 0 ? varint() : some(kind === 1 ? 8 : kind === 5 ? 4 : varint());
  }
  return found;
}

function framed(message) {
  return Uint8Array.of(0, 0, 0, 0, message.length, ...message);
}

async function* frames(chunks) {
  let bytes = new Uint8Array();
  for await (const chunk of chunks) {
    bytes = joined(bytes, chunk);
    while (bytes.length >= 5) {
      const end = 5 + new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
      if (bytes.length < end) break;
      yield { isTrailers: (bytes[0] & 0x80) !== 0, bytes: bytes.slice(5, end) };
      bytes = bytes.slice(end);
    }
  }
}

/** Base64 of which each piece may end with padding: decoded by fours. */
async function* decoded(chunks) {
  let text = "";
  for await (const chunk of chunks) {
    text += new TextDecoder().decode(chunk);
    const whole = text.length - (text.length % 4);
    const fours = text.slice(0, whole).match(/.{4}/gs) ?? [];
    text = text.slice(whole);
    yield Uint8Array.from(fours.map(atob).join(""), (letter) => letter.charCodeAt(0));
  }
}

function joined(one, other) {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}
