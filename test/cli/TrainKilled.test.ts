import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import * as Random from "../../src/Random.ts"
import { contents, jsonl, killed, lines, tiny, tokenRows, train, workplace } from "./TrainFixture.ts"

const kills = 20

describe("a training that is killed (kill -9) at 20 random moments", () => {
  it("and started again each time ends with the same bytes as one that was not", { timeout: 300_000 }, async () => {
    const dir = workplace()
    const data = jsonl(join(dir, "rows.jsonl"), tokenRows(40))
    const held = jsonl(join(dir, "eval.jsonl"), tokenRows(4, 2))
    const command = (out: string) => [
      ...["sft", "--model", tiny, "--data", data, "--out", out, "--eval", held, "--lora-rank", "4"],
      ...["--steps", "500", "--batch-size", "3", "--save-every", "40", "--keep", "2", "--learning-rate", "0.003"]
    ]
    const whole = join(dir, "whole")
    const straight = await train(...command(whole))
    assert.strictEqual(straight.status, 0, straight.stderr)
    const expected = contents(whole)
    assert.include(Object.keys(expected), "state/state.safetensors")

    const random = Random.make(7, "kills")
    let [count, places] = [0, new Set<number>()]
    for (let attempt = 0; count < kills; attempt++) {
      const out = join(dir, `killed ${attempt}`)
      while (count < kills && !existsSync(join(out, "summary.json"))) {
        // A quarter of them before the first step, the others while it learns, saves and keeps checkpoints: somewhere
        // within the step after so many new ones, however fast the machine is.
        const early = random.chance(0.25)
        const metrics = join(out, "metrics.jsonl")
        const more = 1 + random.int(80)
        // The file is cut where a training goes on, and then has the steps before the state.
        const file = () => statSync(metrics, { throwIfNoEntry: false })?.mtimeMs
        const before = file()
        let begun: number | undefined
        const ready = () => {
          if (early) return true
          if (file() === before) return false
          const steps = readFileSync(metrics, "utf8").split("\n").length
          begun ??= steps
          return steps >= begun + more
        }
        if (await killed(ready, (early ? 1200 : 20) * random.next(), ...command(out))) count++
        if (existsSync(metrics)) places.add(readFileSync(metrics, "utf8").split("\n").length)
      }
      const rest = await train(...command(out))
      assert.strictEqual(rest.status, 0, rest.stderr)
      assert.deepStrictEqual(
        lines(join(out, "metrics.jsonl")).map((line) => line["step"]),
        Array.from({ length: 500 }, (_, i) => i + 1)
      )
      assert.deepStrictEqual(contents(out), expected)
    }
    // It did not happen at one place again and again.
    assert.isAbove(places.size, kills / 3)
  })
})
