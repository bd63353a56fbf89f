"""A client that is not Python: node's own fetch, which reads the stream as a page does."""

import json
import shutil
import subprocess

import pytest
from reference.serving import request


NODE = shutil.which("node")

CLIENT = r"""
const [url, path] = process.argv.slice(1);
const {readFileSync} = await import("node:fs");
const asked = JSON.parse(readFileSync(path, "utf8"));
const head = {"Content-Type": "application/json"};

async function* events(answer) {
  let held = "";
  for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) {
    const parts = (held + piece).split("\n\n");
    held = parts.pop();
    for (const part of parts) yield part.replace(/^data: /, "");
  }
}

const send = body => fetch(`${url}/v1/chat/completions`, {method: "POST", headers: head, body: JSON.stringify(body)});
const whole = await (await send(asked)).json();
let text = "", last = "", usage = null;
for await (const event of events(await send({...asked, stream: true, stream_options: {include_usage: true}}))) {
  last = event;
  if (event === "[DONE]") continue;
  const chunk = JSON.parse(event);
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
const form = new FormData();
form.append("purpose", "user_data");
const encoded = asked.messages[0].content[0].video_url.url.split(",")[1];
form.append("file", new Blob([Buffer.from(encoded, "base64")]), "é.mp4");
const sent = await (await fetch(`${url}/v1/files`, {method: "POST", body: form})).json();
const part = {type: "file", file: {file_id: sent.id}};
const content = [part, ...asked.messages[0].content.slice(1)];
const uploaded = await (await send({...asked, messages: [{role: "user", content}]})).json();
const wrong = await send({...asked, prune: 2});
console.log(JSON.stringify({
  whole: whole.choices[0].message.content, text, last, usage, name: sent.filename,
  uploaded: uploaded.choices[0].message.content, status: wrong.status, code: (await wrong.json()).error.code,
}));
"""


@pytest.mark.skipif(NODE is None, reason="no node is installed here, so no JavaScript client can ask")
def test_a_javascript_client_reads_answers_streams_uploads_and_refusals(served, clips, tmp_path):
    clip = clips[2]
    (tmp_path / "asked.json").write_text(json.dumps(request(clip, clip.questions[0])))
    line = [str(NODE), "--input-type=module", "-e", CLIENT, served.url, str(tmp_path / "asked.json")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    expected = served.session.ask(clip.path, clip.questions[0], max_tokens=12)
    assert told["whole"] == told["text"] == told["uploaded"] == expected
    assert told["last"] == "[DONE]"
    assert told["usage"]["prompt_tokens_details"]["vision_tokens"] == 64
    assert (told["status"], told["code"], told["name"]) == (400, "invalid_value", "é.mp4")
