import { assert, describe, it } from "vitest"
import * as Choice from "../../../src/providers/http/Choice.ts"

const letters = Choice.make([" (A)", " (B)"])
const wordy = Choice.make(["Yes", "No"])

describe("Choice", () => {
  it("tells the options apart by what they do not have in common", () => {
    assert.deepStrictEqual([letters.before, ...letters.marks], [" (", "A", "B"])
    assert.deepStrictEqual([wordy.before, ...wordy.marks], ["", "Yes", "No"])
    assert.deepStrictEqual(Choice.make(["(A)", "(AB)"]).marks, ["A", "AB"])
    assert.deepStrictEqual(Choice.make(["first", "fifth"]).marks, ["first", "fifth"])
    assert.deepStrictEqual(Choice.make(["(A)", "[B)"]).marks, ["(A", "[B"])
    assert.deepStrictEqual(Choice.make(["(A)", "(B]"]).marks, ["A)", "B]"])
  })

  it("reads tokens with and without space and bracket, and pieces of words", () => {
    assert.deepStrictEqual(
      ["A", " A", "(B", "A)", " (", "The", "Apple"].map((token) => Choice.ofToken(letters, token)),
      [0, 0, 1, 0, "nothing", undefined, undefined]
    )
    assert.deepStrictEqual(
      [" Y", "N", "Nothing"].map((token) => Choice.ofToken(wordy, token)),
      [0, 1, undefined]
    )
  })

  it("reads whole answers, and leaves open what begins with none and names both", () => {
    const texts = [
      "(A)",
      "B",
      " A.",
      "I choose (B), since it is kind.",
      "A good answer is (B)",
      "(A) or (B)?",
      "Neither"
    ]
    assert.deepStrictEqual(
      texts.map((text) => Choice.ofText(letters, text)),
      [0, 1, 0, 1, 1, 0, undefined]
    )
  })
})
