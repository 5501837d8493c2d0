import { assert, describe, it } from "@effect/vitest"
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Earlier from "../../src/recipes/Earlier.ts"
import type { Manifest } from "../../src/recipes/Manifest.ts"
import type { Phase } from "../../src/recipes/Phases.ts"
import * as Retried from "../../src/recipes/Retried.ts"
import { workplace } from "../workplace.ts"

const phase = (name: string, hash: string): Phase => ({
  fingerprint: `all of ${hash}`,
  logs: { [`${name}/rows.jsonl`]: hash },
  files: []
})

/** A manifest of phases with one log each, by the hashes of these. */
const manifest = (hashes: Readonly<Record<string, string>>) =>
  ({
    phases: Object.fromEntries(Object.entries(hashes).map(([name, hash]) => [name, phase(name, hash)]))
  }) as unknown as Manifest

/** A folder of a run with what was moved aside in it, oldest first: records of all phases. */
const folder = (asides: ReadonlyArray<Manifest>): string => {
  const dir = workplace()
  for (const [i, aside] of asides.entries()) {
    const write = (path: string, text: string) => {
      const file = join(dir, Earlier.folder, String(i + 1), path)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, text)
    }
    write("manifest.json", JSON.stringify(aside))
    for (const name of Object.keys(aside.phases)) write(`${name}/rows.jsonl`, "{}\n")
  }
  return dir
}

/** The numbers of the folders aside whose records of a phase hold. */
const held = (asides: ReadonlyArray<Manifest>, now: Manifest, name: string): ReadonlyArray<string> => {
  const dir = folder(asides)
  const sources = Earlier.sources(dir, now).get(`${name}/rows.jsonl`) ?? []
  return sources.map((aside) => aside.slice(join(dir, Earlier.folder, "/").length))
}

describe("records aside", () => {
  const one = manifest({ answers: "a", labels: "l", scores: "s" })

  it("hold where what determines them is the same, the newest first", () => {
    const other = manifest({ answers: "a", labels: "other", scores: "s" })
    assert.deepStrictEqual(held([one, other, one], one, "labels"), ["3", "1"])
    assert.deepStrictEqual(held([one, other, one], one, "answers"), ["3", "2", "1"])
    assert.deepStrictEqual(held([other], one, "labels"), [])
  })

  it("do not hold where a sample was tried again since that they were made without", () => {
    const retry = Retried.before(one, "answers")
    assert.deepStrictEqual(held([one, retry], one, "labels"), [])
    assert.deepStrictEqual(held([one, retry], one, "scores"), [])
    // The phase of the sample has all its other records.
    assert.deepStrictEqual(held([one, retry], one, "answers"), ["2", "1"])
    // What was made afterwards was made with it.
    assert.deepStrictEqual(held([one, retry, one], one, "scores"), ["3"])
    assert.deepStrictEqual(held([one, Retried.before(one, "labels")], one, "labels"), ["2", "1"])
    assert.deepStrictEqual(held([one, Retried.before(one, "labels")], one, "scores"), [])
  })

  it("do not hold either where it was tried again under other settings of a phase behind it", () => {
    const other = manifest({ answers: "a", labels: "other", scores: "other" })
    assert.deepStrictEqual(held([one, Retried.before(other, "answers")], one, "labels"), [])
    assert.deepStrictEqual(held([one, Retried.before(other, "answers")], one, "scores"), [])
    // Where the sample itself was another one, nothing has changed.
    const elsewhere = manifest({ answers: "other", labels: "other", scores: "other" })
    assert.deepStrictEqual(held([one, Retried.before(elsewhere, "answers")], one, "labels"), ["1"])
  })

  it("do not hold where a training tried a sample again since, also one behind another training", () => {
    const training = (fingerprint: string): Phase => ({ fingerprint, logs: {}, files: [] })
    const { answers, scores } = one.phases
    const phases = { answers: answers!, reward: training("r"), policy: training("p"), scores: scores! }
    const run = { phases } as unknown as Manifest
    for (const name of ["reward", "policy"]) {
      assert.deepStrictEqual(held([run, Retried.before(run, name)], run, "scores"), [])
      assert.deepStrictEqual(held([run, Retried.before(run, name)], run, "answers"), ["2", "1"])
    }
  })
})
