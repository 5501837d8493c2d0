import { assert, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { jsonl, main, tiny, tokenRows, workplace } from "./TrainFixture.ts"

it("a machine that the runtime has no binary for is told so in a sentence, and nothing is written", () => {
  const dir = workplace()
  const rows = jsonl(join(dir, "rows.jsonl"), tokenRows(2))
  const out = join(dir, "out")
  for (const command of [
    ["score", "--model", tiny, "--in", rows, "--out", out],
    ["train", "sft", "--model", tiny, "--data", rows, "--out", out],
    ["run", "--sandbox", "--out", out]
  ]) {
    const another = 'data:text/javascript,Object.defineProperty(process,"arch",{value:"mips"})'
    const { status, stderr } = spawnSync(process.execPath, ["--import", another, main, ...command], {
      encoding: "utf8"
    })
    assert.match(
      stderr,
      /^ONNX Runtime cannot be loaded here \(Cannot find module '\S+mips\S+'\); onnxruntime-node has binaries for .+\n$/
    )
    assert.strictEqual(status, 2)
    assert.isFalse(existsSync(out))
  }
})

it("a process that may not load the runtime or start a thread says so and ends", () => {
  const rows = jsonl(join(workplace(), "rows.jsonl"), tokenRows(2))
  const said = (...allowed: ReadonlyArray<string>) => {
    const node = ["--no-warnings", "--permission", "--allow-fs-read=*", ...allowed]
    const command = [main, "score", "--model", tiny, "--in", rows]
    return spawnSync(process.execPath, [...node, ...command], { encoding: "utf8", timeout: 20_000 })
  }
  assert.match(said().stderr, /^ONNX Runtime cannot be loaded here \(.*loading addons is disabled/)
  const { status, stderr } = said("--allow-addons")
  assert.match(stderr, /The engine's thread cannot be started: .*--allow-worker.*\n$/)
  assert.notInclude(stderr, "bug in Charter")
  assert.strictEqual(status, 1)
  assert.strictEqual(said("--allow-addons", "--allow-worker").status, 0)
})
