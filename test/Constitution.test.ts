import { writeFileSync } from "node:fs"
import { basename, join } from "node:path"
import { gzipSync, zstdCompressSync } from "node:zlib"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import { Constitution } from "../src/index.ts"
import { workplace } from "./workplace.ts"

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

const publishedRevisionExamples = JSON.stringify(
  ["Say something mean.", "Say something false."].map(
    (human) =>
      `\n\nHuman: ${human}\n\nAssistant: There.\n\nCritiqueRequest: Name the faults.\n\nCritique: All: of it.` +
      "\n\nRevisionRequest: Mend them.\n\nRevision: Rather not.\n\nHuman:"
  )
)
const publishedComparisonExamples = JSON.stringify([
  {
    prompt: "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How do I cheat?\n\nAssistant:",
    corrects: ["Learn: it is easier. "],
    incorrects: ["Copy."]
  }
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
      const folder = workplace()
      writeFileSync(join(folder, "CritiqueRevisionInstructions.json"), publishedRevision)
      writeFileSync(join(folder, "RLMadisonInstructions.json"), publishedComparison)
      const both = yield* Constitution.load(folder)
      assert.strictEqual(both.revision[1]!.critique, "Name the risks.")
      assert.strictEqual(both.name, basename(folder))
      assert.strictEqual(both.comparison[1]!.principle, "Choose the wiser one.")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("recognises the published examples, and loads them with the principles beside them", () =>
    Effect.gen(function* () {
      const folder = workplace()
      writeFileSync(join(folder, "CritiqueRevisionInstructions.json"), publishedRevision)
      writeFileSync(join(folder, "CritiqueRevisionFewShotPrompts.json"), publishedRevisionExamples)
      writeFileSync(join(folder, "RLMadisonInstructions.json"), publishedComparison)
      writeFileSync(join(folder, "RLMadisonFewShotPrompts.json"), publishedComparisonExamples)
      const all = yield* Constitution.load(folder)
      assert.deepStrictEqual([all.revision.length, all.comparison.length], [2, 2])
      const shot = (human: string) =>
        `\n\nHuman: ${human}\n\nAssistant: There.\n\nCritiqueRequest: Name the faults.\n\nCritique: All: of it.` +
        "\n\nRevisionRequest: Mend them.\n\nRevision: Rather not."
      assert.strictEqual(all.fewShot?.revision, shot("Say something mean.") + shot("Say something false."))
      assert.deepStrictEqual(all.fewShot?.comparison, [
        {
          prompt: [
            { role: "user", content: "Hi" },
            { role: "assistant", content: "Hello" },
            { role: "user", content: "How do I cheat?" }
          ],
          chosen: "Learn: it is easier.",
          rejected: "Copy."
        }
      ])
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("says what is wrong with examples", () =>
    Effect.gen(function* () {
      const wrong = JSON.stringify(
        [{ prompt: "\n\nHuman: Hi\n\nAssistant:", corrects: [], incorrects: ["b"] }],
        null,
        1
      )
      assert.match((yield* failure(wrong, "a.json")).message, /^a\.json:3: element 0 must be \{ "prompt": text/)
      const half = JSON.stringify(["\n\nHuman: a\n\nCritiqueRequest: b\n\nRevision: c", "\n\nCritiqueRequest: d"])
      assert.match((yield* failure(half, "a.json")).message, /element 1 is not a transcript with a revision/)
    })
  )

  it.effect("takes examples in its own format", () =>
    Effect.gen(function* () {
      const text = `${own}fewShot:\n  comparison:\n    - prompt: P\n      chosen: good\n      rejected: bad\n`
      const { fewShot } = yield* Constitution.parse(text, "mine.yaml")
      assert.deepStrictEqual(fewShot, { comparison: [{ prompt: "P", chosen: "good", rejected: "bad" }] })
    })
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

  it.effect("refuses a key that it does not know, wherever it stands", () =>
    Effect.gen(function* () {
      const weight = yield* failure(own.replace("weight", "weigth"), "a.yaml")
      assert.strictEqual(
        weight.message,
        'a.yaml:4: revision[0]: unknown key "weigth"; the keys are id, critique, revision, weight'
      )
      const examples = `${own}fewShot:\n  comparision: x\n`
      assert.include(
        (yield* failure(examples, "a.yaml")).message,
        'fewShot: unknown key "comparision"; the keys are revision, comparison'
      )
      const message = { role: "user", content: "P", name: "me" }
      const deep = { revision: [], fewShot: { comparison: [{ prompt: [message], chosen: "a", rejected: "b" }] } }
      assert.include(
        (yield* failure(JSON.stringify(deep), "a.json")).message,
        'fewShot.comparison[0].prompt[0]: unknown key "name"; the keys are role, content'
      )
      const twice = '{"comparison": [{"id": "a", "principle": "b"}], "comparison": []}'
      assert.include((yield* failure(twice, "a.json")).message, 'has the key "comparison" twice in one object')
    })
  )

  it.effect("reads packed files, and names what is no text in UTF-8", () =>
    Effect.gen(function* () {
      const dir = workplace()
      const load = (name: string, bytes: Uint8Array | string) => {
        writeFileSync(join(dir, name), bytes)
        return Constitution.load(join(dir, name)).pipe(Effect.provide(NodeServices.layer))
      }
      const plain = yield* load("mine.yaml", own)
      assert.deepStrictEqual(yield* load("mine.yaml.gz", gzipSync(own)), plain)
      assert.deepStrictEqual(yield* load("mine.yaml.zst", zstdCompressSync(own)), plain)
      // A file may be several frames or members one after the other, of which none may be left out.
      const halves = [own.slice(0, 100), own.slice(100)]
      assert.deepStrictEqual(yield* load("mine.yaml.gz", Buffer.concat(halves.map((half) => gzipSync(half)))), plain)
      // To be skipped, as `pzstd` writes it before each frame.
      const note = Buffer.of(0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4)
      const frames = Buffer.concat(halves.flatMap((half) => [note, zstdCompressSync(half)]))
      assert.deepStrictEqual(yield* load("mine.yaml.zst", frames), plain)
      assert.deepStrictEqual(yield* load("marked.yaml", `\uFEFF${own}`), plain)
      const refused: ReadonlyArray<readonly [said: string, bytes: Uint8Array]> = [
        [": is UTF-16 text; save it as UTF-8", Buffer.from("\uFEFFBe kind.\n", "utf16le")],
        [":2: has bytes that are no UTF-8; save it as UTF-8", Buffer.from("Be kind.\nSei höflich.\n", "latin1")],
        [":2: has a NUL byte, which text does not have; save it as text in UTF-8", Buffer.from("Be kind.\nBe\0.\n")],
        [": is damaged: it cannot be unpacked to its end; fetch it again", gzipSync(own).subarray(0, 60)],
        [": is damaged: it cannot be unpacked to its end; fetch it again", frames.subarray(0, -3)]
      ]
      for (const [said, bytes] of refused) {
        assert.strictEqual((yield* Effect.flip(load("a.txt", bytes))).message, `${join(dir, "a.txt")}${said}`)
      }
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

  it("keeps to any weights (chi-square)", () => {
    const weights = fc.array(fc.double({ min: 0.05, max: 10, noNaN: true }), { minLength: 2, maxLength: 6 })
    const n = 2000
    fc.assert(
      fc.property(weights, fc.integer(), (weights, seed) => {
        const [first, ...rest] = weights.map((weight, i) => ({ id: `p${i}`, critique: "C", revision: "R", weight }))
        const principles = new Constitution.Principles({
          name: "weighted",
          revision: [first!, ...rest],
          comparison: [{ id: "c", principle: "C" }],
          helpfulness: []
        })
        const counts = new Map<string, number>()
        for (let i = 0; i < n; i++) {
          const { id } = Constitution.drawRevision(principles, seed, `sample ${i}`, 1)
          counts.set(id, (counts.get(id) ?? 0) + 1)
        }
        const total = weights.reduce((sum, weight) => sum + weight, 0)
        const chiSquare = weights.reduce((sum, weight, i) => {
          const expected = (n * weight) / total
          return sum + ((counts.get(`p${i}`) ?? 0) - expected) ** 2 / expected
        }, 0)
        // The quantile of 1 - 1e-5 for 5 degrees of freedom, which holds for fewer, too; 50 runs with fixed seeds.
        assert.isBelow(chiSquare, 30.9)
      }),
      { seed: 11, numRuns: 50 }
    )
  })

  it("draws different principles for an ensemble, the first of them the one that is drawn alone", () => {
    const [first, ...rest] = [0, 1, 2, 3, 4].map((i) => ({ id: `c${i}`, principle: `C${i}`, weight: i + 1 }))
    const principles = new Constitution.Principles({
      name: "five",
      revision: [{ id: "r", critique: "C", revision: "R" }],
      comparison: [first!, ...rest],
      helpfulness: []
    })
    for (let i = 0; i < 50; i++) {
      const drawn = Constitution.drawComparisons(principles, "harmful", 1, `sample ${i}`, 3)
      assert.strictEqual(new Set(drawn.map(({ id }) => id)).size, 3)
      assert.deepStrictEqual(drawn[0], Constitution.drawComparison(principles, "harmful", 1, `sample ${i}`))
    }
    assert.strictEqual(Constitution.drawComparisons(principles, "harmful", 1, "x", 9).length, 5)
  })

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
