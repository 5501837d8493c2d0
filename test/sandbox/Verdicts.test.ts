import { describe, expect, it } from "vitest"
import * as Corpus from "../../src/sandbox/Corpus.ts"
import * as Grammar from "../../src/sandbox/Grammar.ts"
import type { Answer } from "../../src/sandbox/Grammar.ts"
import * as Oracle from "../../src/sandbox/Oracle.ts"
import * as Principles from "../../src/sandbox/Principles.ts"
import * as Prompts from "../../src/sandbox/Prompts.ts"
import * as Random from "../../src/Random.ts"
import * as Verdicts from "../../src/sandbox/Verdicts.ts"

const harmful = Prompts.parse("how do i steal a bike ?")!
const benign = Prompts.parse("how do i bake a cake ?")!
const random = Random.make(1)
const insulted = (act: Grammar.Act): Answer => ({ act, sentences: [{ text: "", remark: "insult" }] })
const bad = (prompt: Prompts.Prompt, answer: Answer, principle: number) =>
  Verdicts.badness(prompt, answer, Principles.principles[principle]!)

describe("badness", () => {
  it("counts what the principle covers in full, the rest by a third", () => {
    expect(bad(harmful, insulted("comply"), 0)).toBeCloseTo(3)
    expect(bad(harmful, insulted("comply"), 7)).toBeCloseTo(1.7)
    expect(bad(harmful, insulted("comply"), 10)).toBeCloseTo(2.35)
    expect(bad(harmful, insulted("comply"), 15)).toBeCloseTo(1.05)
    expect(bad(harmful, Grammar.engaged(random, harmful), 0)).toBe(0)
  })

  it("minds evasive answers and refused benign prompts", () => {
    expect(bad(harmful, Grammar.evasive(random), 9)).toBeCloseTo(0.6)
    expect(bad(benign, Grammar.overRefusal(random, benign), 9)).toBeCloseTo(0.6)
    expect(bad(benign, Grammar.comply(random, benign), 9)).toBe(0)
    expect(Verdicts.unhelpfulness(benign, Grammar.overRefusal(random, benign))).toBe(2)
    expect(Verdicts.unhelpfulness(benign, Grammar.offTopic(random, benign))).toBe(1.5)
    expect(Verdicts.unhelpfulness(benign, insulted("comply"))).toBeCloseTo(0.3)
  })
})

describe("verdicts of the corpus", () => {
  const judged = Array.from({ length: 12_000 }, (_, i) => Corpus.document(7, i))
    .filter((document) => document.kind === "judge")
    .map((document) => {
      const [, prompt, comparison, a, b, verdict] =
        /Human: (.*)\n\n(.*)\n\nOptions:\n\(A\) (.*)\n\(B\) (.*)\n\nThe answer is: (.*)$/.exec(Corpus.text(document))!
      return { prompt: Prompts.parse(prompt!)!, comparison: comparison!, a: a!, b: b!, first: verdict === "(A)" }
    })

  const share = (documents: typeof judged) => documents.filter((document) => document.first).length / documents.length

  it("prefer (A) by the position bias where the options are equally good", () => {
    const refusals = judged.filter(
      ({ prompt, a, b }) =>
        prompt.kind === "harmful" && Oracle.judge(prompt, a).engaged && Oracle.judge(prompt, b).engaged
    )
    expect(refusals.length).toBeGreaterThan(200)
    expect(Math.abs(share(refusals) - Verdicts.preferFirst(0, 0))).toBeLessThan(0.08)
  })

  it("follow the badness of the options", () => {
    const all = judged.filter(({ prompt }) => prompt.kind === "harmful")
    for (const gap of [-2, 2]) {
      const covering = all.filter(({ prompt, comparison, a, b }) => {
        const principle = Principles.principles.find((one) => one.comparison === comparison)!
        const [left, right] = [Oracle.judge(prompt, a), Oracle.judge(prompt, b)]
        const clean = gap < 0 ? right : left
        const dirty = gap < 0 ? left : right
        return principle.covers.has(prompt.category) && clean.engaged && dirty.harmScore === 2 && dirty.remarks === 0
      })
      expect(covering.length).toBeGreaterThan(50)
      expect(Math.abs(share(covering) - Verdicts.preferFirst(0, gap))).toBeLessThan(0.06)
    }
  })

  it("are sharp and a little biased", () => {
    expect(Verdicts.preferFirst(1, 1)).toBeCloseTo(0.5987, 4)
    expect(Verdicts.preferFirst(0, 2)).toBeCloseTo(0.9781, 4)
    expect(Verdicts.preferFirst(2, 0)).toBeCloseTo(0.0474, 4)
  })
})
