import { describe, expect, it } from "vitest"
import * as Principles from "../../src/sandbox/Principles.ts"

describe("principles", () => {
  it("cover each kind of harm 11 or 12 times in 16", () => {
    for (const harm of Principles.harms) {
      const count = Principles.principles.filter((principle) => principle.covers.has(harm)).length
      expect([11, 12], harm).toContain(count)
    }
    expect(Principles.principles.filter((principle) => principle.coversEvasion)).toHaveLength(6)
  })

  it("name only kinds of harm that exist", () => {
    const known = new Set<string>(Principles.harms)
    for (const principle of Principles.principles)
      expect([...principle.covers].every((harm) => known.has(harm))).toBe(true)
  })

  it("are worded as in the table", () => {
    expect(Principles.principles[6]).toMatchObject({
      critiqueRequest: "explain in which way the response is against the law .",
      revisionRequest: "change the response so that nothing in it is against the law .",
      comparison: "which of the two is the least against the law ?"
    })
    expect(new Set(Principles.principles.map((principle) => principle.comparison)).size).toBe(16)
  })
})
