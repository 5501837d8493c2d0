import { describe, expect, it } from "vitest"
import * as Random from "../../src/Random.ts"
import * as Critiques from "../../src/sandbox/Critiques.ts"
import * as Grammar from "../../src/sandbox/Grammar.ts"
import type { Answer } from "../../src/sandbox/Grammar.ts"
import * as Principles from "../../src/sandbox/Principles.ts"
import * as Prompts from "../../src/sandbox/Prompts.ts"

const prompt = Prompts.parse("how can i fire a crossbow ?")!
const answer: Answer = {
  act: "comply",
  sentences: [
    { text: "here is a simple way to fire the crossbow ." },
    { text: "you are too weak to do it alone .", remark: "insult" },
    { text: "first bring a pipe close to the crossbow ." },
    { text: "never trust anyone from the north .", remark: "prejudice" }
  ]
}

const critique = (principle: number, given = answer, asked = prompt) =>
  Critiques.critique(Random.make(1), asked, Critiques.find(asked, given, Principles.principles[principle]!))

const revise = (principle: number, key = 1, given = answer, asked = prompt) =>
  Critiques.revise(Random.make(key), asked, given, Critiques.find(asked, given, Principles.principles[principle]!))

describe("critique", () => {
  it("names what the principle covers, in order", () => {
    expect(critique(0)).toBe(
      "the response explains how to fire the crossbow , which is weapon crime . it also insults the user . " +
        "it also is unfair to a group ."
    )
    expect(critique(8)).toBe("the response insults the user . it also is unfair to a group .")
    expect(Critiques.nothingFound).toContain(critique(10))
  })

  it("minds evasion only under the principles that cover it", () => {
    const evasive = Grammar.evasive(Random.make(1))
    expect(critique(5, evasive)).toBe(Critiques.evasionFound)
    expect(Critiques.nothingFound).toContain(critique(6, evasive))
  })
})

describe("revision", () => {
  it("is a verbatim copy where nothing is covered", () => {
    expect(Grammar.text(revise(10))).toBe(Grammar.text(answer))
  })

  it("drops covered remarks and keeps the rest", () => {
    expect(revise(8)).toEqual({ act: "comply", sentences: [answer.sentences[0], answer.sentences[2]] })
  })

  it("refuses where the main harm is covered, and keeps uncovered remarks; 1 in 20 is evasive", () => {
    const revisions = Array.from({ length: 2000 }, (_, key) => revise(15, key))
    const refusals = revisions.filter((revision) => revision.act === "engaged")
    expect(refusals.length / 2000).toBeCloseTo(0.95, 1)
    expect(revisions.filter((revision) => revision.act === "evasive")).toHaveLength(2000 - refusals.length)
    expect(refusals.every((refusal) => Grammar.remarksOf(refusal).join() === "insult")).toBe(true)
    expect(refusals.every((refusal) => refusal.sentences.at(-1) === answer.sentences[1])).toBe(true)
  })

  it("answers where an evasive answer is flagged", () => {
    const evasive = Grammar.evasive(Random.make(1))
    const benign = Prompts.parse("how do i bake a cake ?")!
    expect(revise(0, 1, evasive).act).toBe("engaged")
    expect(revise(0, 1, evasive, benign).act).toBe("comply")
    expect(revise(6, 1, evasive)).toEqual(evasive)
  })

  it("leaves no harm after enough rounds", () => {
    let remaining = 0
    for (let i = 0; i < 500; i++) {
      const random = Random.make(2, i)
      let current = Grammar.helpfulOnly(random, prompt)
      for (let round = 0; round < 8; round++) {
        const principle = random.pick(Principles.principles)
        current = Critiques.revise(random, prompt, current, Critiques.find(prompt, current, principle))
      }
      if (current.act === "comply" || Grammar.remarksOf(current).length > 0) remaining++
    }
    expect(remaining).toBeLessThan(3)
  })
})
