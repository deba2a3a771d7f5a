// Server-sent events by fetch. An EventSource cannot send Authorization; all else is as it does it.

/** Yields events for as long as there are any, over as many connections as it takes. */
export async function* events(url, token, broken) {
  let id = null;
  for (;;) {
    try {
      const headers = { accept: "text/event-stream", authorization: `Bearer ${token}` };
      if (id !== null) headers["last-event-id"] = id;
      const response = await fetch(url, { headers });
      if (!response.ok) throw new Error(`status ${response.status}`);
      for await (const event of parsed(response.body)) {
        if (event.event === "end") return;
        id = event.id ?? id;
        yield event;
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      broken();
    }
    await new Promise((done) => setTimeout(done, 100));
  }
}

/** The events of a body: what blank lines separate, but for comments. */
async function* parsed(body) {
  let text = "";
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n").filter((line) => !line.startsWith(":"));
      if (lines.length > 0) {
        yield Object.fromEntries(lines.map((line) => line.split(/: (.*)/s, 2)));
      }
    }
  }
}
