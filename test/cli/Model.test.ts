import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { cpSync } from "node:fs"
import * as path from "node:path"
import * as Model from "../../src/cli/Model.ts"
import { workplace } from "../workplace.ts"

describe("A folder of an adapter", () => {
  const adapter = path.join(import.meta.dirname, "../fixtures/tiny-llama/adapter")

  it.effect("is not taken for a broken model, with a config.json beside it or without", () =>
    Effect.gen(function* () {
      const dir = workplace()
      cpSync(adapter, dir, { recursive: true })
      cpSync(path.join(adapter, "../config.json"), path.join(dir, "config.json"))
      for (const folder of [adapter, dir]) {
        const { message } = yield* Effect.flip(Model.open(folder))
        assert.strictEqual(
          message,
          `${folder} is an adapter and no model; give the folder of its model, and this one as --adapter where the command has that.`
        )
      }
    })
  )
})

describe("The progress of a download", () => {
  const draw = (isTTY: boolean, steps: ReadonlyArray<readonly [at: number, done: number, total: number]>) => {
    let [text, time] = ["", 0]
    const tell = Model.fetching({ isTTY, write: (more) => (text += more) }, () => time)
    for (const [at, done, total] of steps) {
      time = at
      tell({ model: "o/n", done: done * 1e6, total: total * 1e6 })
    }
    return text
  }

  it("is a line now and then", () => {
    assert.strictEqual(
      draw(false, [
        [0, 1, 1],
        [10, 2, 270],
        [15_000, 90, 270],
        [20_000, 120, 270],
        [31_000, 270, 270]
      ]),
      "Fetching o/n: 90 of 270 MB\nFetching o/n: 270 of 270 MB\n"
    )
  })

  it("is one line on a terminal, which ends with the download", () => {
    assert.strictEqual(
      draw(true, [
        [10, 2, 270],
        [110, 90, 270],
        [111, 270, 270]
      ]),
      "\r\x1b[2KFetching o/n: 90 of 270 MB\r\x1b[2KFetching o/n: 270 of 270 MB\n"
    )
  })

  it("is nothing when everything is there", () => {
    assert.strictEqual(draw(true, [[1, 270, 270]]), "")
  })
})
