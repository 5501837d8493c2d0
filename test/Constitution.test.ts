import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Constitution } from "../src/index.ts"

const own = `
name: mine
revision:
  - id: honest
    critique: "What is untrue? Name it: word by word."
    revision: Make it true.
    weight: 3
  - id: kind
    critique: What is unkind?
    revision: Make it kind.
comparison:
  - id: honest
    principle: Which is more honest?
helpfulness:
  - id: useful
    principle: Which is more useful?
`

// The shape of the published files, with words of our own.
const publishedRevision = JSON.stringify({
  harmful0: {
    prompt: ["\n\nCritiqueRequest: Name the faults: all of them.\n\nCritique:"],
    edit_request: "\n\nRevisionRequest: Mend the faults.\n\nRevision:"
  },
  harmful1: {
    prompt: ["\n\nCritiqueRequest: Name the risks.\n\nCritique:"],
    edit_request: "\n\nRevisionRequest: Take out the risks.\n\nRevision:"
  }
})
const publishedComparison = JSON.stringify([
  "\nChoose the safer response. Options:",
  "\nChoose the wiser one. Options:"
])

const failure = (text: string, file: string) => Constitution.parse(text, file).pipe(Effect.flip)

describe("Constitution", () => {
  it.effect("reads its own format, as YAML and as JSON", () =>
    Effect.gen(function* () {
      const yaml = yield* Constitution.parse(own, "mine.yaml")
      assert.strictEqual(yaml.name, "mine")
      assert.strictEqual(yaml.revision[0].critique, "What is untrue? Name it: word by word.")
      assert.strictEqual(yaml.revision[0].weight, 3)
      assert.strictEqual(yaml.helpfulness[0]!.id, "useful")

      const json = yield* Constitution.parse(JSON.stringify(yaml), "mine.json")
      assert.deepStrictEqual(json, yaml)
    })
  )

  it.effect("completes half a constitution from the one that ships", () =>
    Effect.gen(function* () {
      const shipped = yield* Constitution.shipped
      assert.isAtLeast(shipped.revision.length, 10)
      assert.isAtLeast(shipped.comparison.length, 10)
      assert.strictEqual(shipped.helpfulness.length, 3)

      const revision = yield* Constitution.parse(publishedRevision, "CritiqueRevisionInstructions.json")
      assert.deepStrictEqual(
        revision.revision.map(({ id, critique, revision }) => [id, critique, revision]),
        [
          ["harmful0", "Name the faults: all of them.", "Mend the faults."],
          ["harmful1", "Name the risks.", "Take out the risks."]
        ]
      )
      assert.deepStrictEqual(revision.comparison, shipped.comparison)

      const comparison = yield* Constitution.parse(publishedComparison, "RLMadisonInstructions.json")
      assert.deepStrictEqual(
        comparison.comparison.map(({ principle }) => principle),
        ["Choose the safer response.", "Choose the wiser one."]
      )
      assert.deepStrictEqual(comparison.revision, shipped.revision)
    })
  )

  it.effect("loads a folder that holds both published files", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "charter-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      writeFileSync(join(folder, "CritiqueRevisionInstructions.json"), publishedRevision)
      writeFileSync(join(folder, "RLMadisonInstructions.json"), publishedComparison)
      const both = yield* Constitution.load(folder)
      assert.strictEqual(both.revision[1]!.critique, "Name the risks.")
      assert.strictEqual(both.name, basename(folder))
      assert.strictEqual(both.comparison[1]!.principle, "Choose the wiser one.")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("makes all three requests of a plain line", () =>
    Effect.gen(function* () {
      const plain = yield* Constitution.parse("# mine\n- Do not insult people.\n\n2. Be clear: always.\n", "mine.txt")
      assert.strictEqual(plain.revision.length, 2)
      for (const text of [plain.revision[0].critique, plain.revision[0].revision, plain.comparison[0].principle]) {
        assert.match(text, / Do not insult people\.$/)
      }
      assert.match(plain.comparison[1]!.principle, /: Be clear: always\.$/)
    })
  )

  it.effect("names file, line and fact of what is wrong", () =>
    Effect.gen(function* () {
      const missing = yield* failure("revision:\n  - id: a\n    critique: b\n    revision: c\n  - id: d\n", "a.yaml")
      assert.strictEqual(missing.message, "a.yaml:5: revision[1].critique: Missing key")

      const unknown = yield* failure("name: x\nrevisions: []\ncomparison: []\n", "a.yaml")
      assert.match(unknown.message, /^a\.yaml:2: unknown key "revisions"; the keys are/)

      const twice = yield* failure("comparison:\n  - id: a\n    principle: b\n  - id: a\n    principle: c\n", "a.yaml")
      assert.match(twice.message, /^a\.yaml:4: comparison principle id "a" is used twice/)

      assert.match((yield* failure('{\n  "revision": [1,,]\n}', "a.json")).message, /^a\.json:2: is not JSON/)
      assert.match((yield* failure("a: 1\n b: [", "a.yaml")).message, /^a\.yaml:2: is not YAML/)
      assert.match(
        (yield* failure('{\n"harmful0": { "edit_request": 1 }}', "a.json")).message,
        /^a\.json:2: "harmful0"/
      )
      assert.match((yield* failure("  \n", "a.txt")).message, /^a\.txt: the file is empty/)
      const nowhere = yield* Constitution.load("no/such/file").pipe(Effect.flip, Effect.provide(NodeServices.layer))
      assert.include(nowhere.message, "no/such/file")
    })
  )

  it.effect("draws by weight, independently for each seed, sample and round", () =>
    Effect.gen(function* () {
      const principles = yield* Constitution.parse(own, "mine.yaml")
      const draws = Array.from(
        { length: 4000 },
        (_, i) => Constitution.drawRevision(principles, 1, `sample ${i}`, 1).id
      )
      const share = draws.filter((id) => id === "honest").length / draws.length
      assert.closeTo(share, 0.75, 0.03)

      // Two rounds of the same sample agree as often as chance has it: 0.75² + 0.25².
      const again = draws.map((_, i) => Constitution.drawRevision(principles, 1, `sample ${i}`, 2).id)
      const agree = draws.filter((id, i) => id === again[i]).length / draws.length
      assert.closeTo(agree, 0.625, 0.03)
      assert.deepStrictEqual(
        draws,
        draws.map((_, i) => Constitution.drawRevision(principles, 1, `sample ${i}`, 1).id)
      )
    })
  )

  it.effect("compares answers to benign prompts for helpfulness", () =>
    Effect.gen(function* () {
      const principles = yield* Constitution.parse(own, "mine.yaml")
      assert.strictEqual(Constitution.drawComparison(principles, "benign", 0, "x").id, "useful")
      assert.strictEqual(Constitution.drawComparison(principles, "harmful", 0, "x").id, "honest")
      const without = new Constitution.Principles({ ...principles, helpfulness: [] })
      assert.strictEqual(Constitution.drawComparison(without, "benign", 0, "x").id, "honest")
    })
  )
})
