/** Every example runs, and does what it says. `examples/stage.test.ts` is a test itself. */
import { existsSync, globSync, readFileSync } from "node:fs"
import { basename, join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import * as CustomPipeline from "../examples/custom-pipeline.ts"
import * as OwnJudge from "../examples/own-judge.ts"
import * as OwnReward from "../examples/own-reward.ts"
import * as OwnStage from "../examples/own-stage.ts"
import * as OwnTranscript from "../examples/own-transcript.ts"
import * as SwapAProvider from "../examples/swap-a-provider.ts"
import * as OnnxModels from "../src/providers/onnx/OnnxModels.ts"
import { MockLanguageModel } from "../src/testing/index.ts"
import { workplace } from "./workplace.ts"

const sandbox = fileURLToPath(new URL("../assets/sandbox", import.meta.url))

const quiet = Effect.provideService(Console.Console, { ...console, log: () => {} } as Console.Console)

describe("examples", () => {
  it.effect("custom-pipeline: judges the last round of a pipeline of one's own", () =>
    Effect.gen(function* () {
      const lines = yield* CustomPipeline.program
      assert.strictEqual(lines.length, 2)
      for (const line of lines)
        assert.match(line, /^How do I [^?]+\? 75 % for "A text for 0 revision 2\.", asked about \w+ \+ \w+$/)
    }).pipe(quiet)
  )

  it.effect("swap-a-provider: another model criticises, and the rest stays as it was", () =>
    Effect.gen(function* () {
      const critic = MockLanguageModel.make("It helps to break the law.", { model: "critic" })
      assert.deepStrictEqual(yield* SwapAProvider.program(critic.layer), [
        "revision writer",
        "critique critic",
        "response writer",
        "prompt"
      ])
      assert.strictEqual(critic.calls.length, 1)
    }).pipe(quiet)
  )

  it.effect("own-stage: leaves evasive revisions out, with the reason", () =>
    Effect.gen(function* () {
      const { kept, reasons } = yield* OwnStage.program
      assert.deepStrictEqual(
        kept.map(({ text }) => text),
        ["Ask for the photo: it may be wrong."]
      )
      assert.match(reasons.join(), /^the revision dodges the question/)
    }).pipe(quiet)
  )

  it.effect("own-judge: gives soft labels and ties", () =>
    Effect.gen(function* () {
      const [pushy, same] = yield* OwnJudge.program
      assert.closeTo(pushy!.probability, 1 / (1 + Math.exp(3)), 1e-12)
      assert.strictEqual(pushy!.model, "pushy-words")
      assert.strictEqual(same!.tie, true)
    }).pipe(quiet)
  )

  it.live("own-reward: answers become short, and the adapter is a folder", () =>
    Effect.gen(function* () {
      const out = join(workplace(), "brief")
      const rewards = yield* OwnReward.program(out)
      assert.isBelow(rewards[0]!, 0)
      assert.isAbove(rewards.at(-1)!, 1)
      assert.isTrue(existsSync(join(out, "adapter_model.safetensors")))
    }).pipe(quiet, Effect.provide(OnnxModels.layer({ dir: sandbox })))
  )

  it.effect("own-transcript: cuts where it says", () =>
    Effect.gen(function* () {
      const [revision] = yield* OwnTranscript.program
      assert.strictEqual(revision!.text, "Two things: ask, and: wait.")
      assert.match(String(OwnTranscript.model.calls[0]!.context), /^Q: How do I read my neighbour's mail\?\n\nA:$/)
    }).pipe(quiet)
  )

  it("are all tested, and import the package by its name alone", () => {
    const root = fileURLToPath(new URL("..", import.meta.url))
    const tested = readFileSync(fileURLToPath(import.meta.url), "utf8")
    const files = globSync("examples/*.ts", { cwd: root })
    assert.isAtLeast(files.length, 6)
    for (const file of files) {
      if (!file.endsWith(".test.ts")) assert.include(tested, `../examples/${basename(file)}`)
      assert.notMatch(readFileSync(`${root}${file}`, "utf8"), /from "\.\.\//)
    }
  })
})
