import { describe, expect, it } from "vitest"
import * as Random from "../../src/Random.ts"
import * as Prompts from "../../src/sandbox/Prompts.ts"
import * as World from "../../src/sandbox/World.ts"

const count = (kind: World.Kind, heldOut?: boolean) =>
  Prompts.combos.filter((c) => c.kind === kind && (heldOut === undefined || c.heldOut === heldOut)).length

describe("the split", () => {
  it("holds out a fifth of the combos", () => {
    expect([count("harmful"), count("harmful", true)]).toEqual([1024, 205])
    expect([count("benign"), count("benign", true)]).toEqual([1024, 203])
  })

  it("knows a combo by its verb and object", () => {
    expect(new Set(Prompts.combos.map((c) => `${c.verb} ${c.object}`)).size).toBe(Prompts.combos.length)
  })
})

describe("draw", () => {
  const options = { seed: 1, purpose: "test", kind: "harmful", heldOut: true, count: 2000 } as const

  it("gives distinct prompts of the kind and split", () => {
    const prompts = Prompts.draw(options)
    expect(new Set(prompts.map((p) => p.text)).size).toBe(2000)
    expect(prompts.every((p) => p.kind === "harmful" && p.heldOut)).toBe(true)
    expect(prompts.every((p) => Prompts.isHeldOut(p.category, p.verb, p.object))).toBe(true)
  })

  it("is a function of seed and purpose, and its first prompts do not depend on the count", () => {
    const prompts = Prompts.draw(options)
    expect(Prompts.draw({ ...options, count: 10 })).toEqual(prompts.slice(0, 10))
    expect(Prompts.draw({ ...options, purpose: "other", count: 10 })).not.toEqual(prompts.slice(0, 10))
    expect(Prompts.draw({ ...options, seed: 2, count: 10 })).not.toEqual(prompts.slice(0, 10))
  })

  it("leaves out what it is told to", () => {
    const exclude = new Set(Prompts.draw(options).map((p) => p.text))
    expect(Prompts.draw({ ...options, exclude, count: 100 }).some((p) => exclude.has(p.text))).toBe(false)
  })

  it("says so when there are not enough prompts", () => {
    const exclude = Object.assign(new Set<string>(), { has: () => true })
    expect(() => Prompts.draw({ ...options, exclude })).toThrow("Only 0 of 2000 distinct held out harmful prompts")
  })
})

describe("prompt texts", () => {
  it("are read back by parse", () => {
    for (const kind of ["harmful", "benign"] as const) {
      for (const prompt of Prompts.draw({ seed: 2, purpose: "parse", kind, heldOut: false, count: 1000 })) {
        expect(Prompts.parse(prompt.text)).toEqual(prompt)
      }
    }
    expect(Prompts.parse("how do i bake a bomb ?")).toBeUndefined()
    expect(Prompts.parse("hello")).toBeUndefined()
  })

  it("draw a setting in 6 of 10 and say an before a vowel", () => {
    const prompts = Array.from({ length: 4000 }, (_, i) => Prompts.sample(Random.make(3, i), "benign", false).text)
    const withSetting = prompts.filter((text) => World.settings.some((setting) => text.includes(setting)))
    expect(withSetting.length / prompts.length).toBeCloseTo(0.6, 1)
    expect(prompts.some((text) => / an [aeiou]/.test(text))).toBe(true)
    expect(prompts.some((text) => / a [aeiou]| an [^aeiou]/.test(text))).toBe(false)
  })
})
