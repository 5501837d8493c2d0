import { assert, describe, it } from "@effect/vitest"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Phases } from "../../src/recipes/Finished.ts"
import type { Manifest } from "../../src/recipes/Manifest.ts"
import * as Retried from "../../src/recipes/Retried.ts"
import { workplace } from "../workplace.ts"

const phases = { fingerprint: "f", logs: { "a.jsonl": "h" }, files: [] }
const manifest = { phases: { first: phases, second: phases, last: phases } } as unknown as Manifest

const rejecting = (...keys: ReadonlyArray<string>) => ({ fingerprint: "f", files: [], rejected: keys })

describe("the samples that are rejected in a folder", () => {
  it("are known by log, stage and id; damaged lines are none, nor is a file that is not there", () => {
    const dir = workplace()
    assert.deepStrictEqual([...Retried.keysUnsafe(dir)], [])
    const rows = ['{"stage":"critique","log":"a.jsonl","id":"x"}', "{", '{"stage":"prompts","id":"y"}', ""]
    writeFileSync(join(dir, "rejected.jsonl"), rows.join("\n"))
    assert.deepStrictEqual([...Retried.keysUnsafe(dir)], ["a.jsonl critique x", " prompts y"])
  })
})

describe("the phase that is tried again", () => {
  const finished: Phases = { first: rejecting("x"), second: rejecting("y", "z"), last: rejecting("v") }

  it("is the first with a sample whose line is gone", () => {
    assert.isUndefined(Retried.phase(manifest, finished, new Set(["x", "y", "z", "v"])))
    assert.strictEqual(Retried.phase(manifest, finished, new Set(["x", "z", "v"])), "second")
    assert.strictEqual(Retried.phase(manifest, finished, new Set()), "first")
  })

  it("is none where nothing builds on it, or where it is not finished", () => {
    assert.isUndefined(Retried.phase(manifest, finished, new Set(["x", "y", "z"])))
    assert.isUndefined(Retried.phase(manifest, { last: rejecting("v") }, new Set()))
  })
})

describe("a manifest from before a retry", () => {
  it("has phases that hold up to the one of the sample, and none behind it", () => {
    const before = Retried.before(manifest, "first")
    assert.deepStrictEqual(before.phases["first"], phases)
    assert.deepStrictEqual(before.phases["second"], before.phases["last"])
    assert.notStrictEqual(before.phases["last"]?.fingerprint, "f")
    assert.notStrictEqual(before.phases["last"]?.logs["a.jsonl"], "h")
  })

  it("says so", () => {
    assert.isUndefined(Retried.of(manifest))
    assert.deepStrictEqual(Retried.of(Retried.before(manifest, "second")), {
      phase: "second",
      logs: { "a.jsonl": "h" },
      behind: new Set(["last"])
    })
    // Twice, where a process was killed as it began to.
    const twice = Retried.before(Retried.before(manifest, "first"), "first")
    assert.deepStrictEqual(Retried.of(twice)?.behind, new Set(["second", "last"]))
  })
})
