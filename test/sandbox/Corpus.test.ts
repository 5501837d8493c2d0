import { describe, expect, it } from "vitest"
import * as Corpus from "../../src/sandbox/Corpus.ts"
import * as Prompts from "../../src/sandbox/Prompts.ts"
import { marker } from "../../src/sandbox/Transcript.ts"

const documents = Array.from({ length: 20_000 }, (_, i) => Corpus.document(11, i))
const of = (kind: Corpus.Kind) => documents.filter((document) => document.kind === kind)
const share = (kind: Corpus.Kind) => of(kind).length / documents.length
const weights = (kind: Corpus.Kind) =>
  new Set(of(kind).map((document) => document.segments.map((segment) => segment.weight).join(" ")))

const promptOf = (document: Corpus.Document) => Prompts.parse(/Human: (.*?)(?=\n\n)/.exec(Corpus.text(document))![1]!)!

const harmfulShare = (kind: Corpus.Kind) =>
  of(kind).filter((document) => promptOf(document).kind === "harmful").length / of(kind).length

describe("the corpus", () => {
  it("is a function of seed and index", () => {
    expect(Corpus.document(11, 3)).toEqual(documents[3])
    expect(Corpus.document(12, 3)).not.toEqual(documents[3])
  })

  it("mixes the roles in the stated shares", () => {
    expect(Math.abs(share("assistant") - 0.25)).toBeLessThan(0.01)
    expect(Math.abs(share("critique") + share("direct") - 0.33)).toBeLessThan(0.01)
    expect(Math.abs(share("direct") / (share("critique") + share("direct")) - 0.08)).toBeLessThan(0.015)
    expect(Math.abs(harmfulShare("assistant") - 0.5)).toBeLessThan(0.03)
    expect(Math.abs(harmfulShare("critique") - 0.85)).toBeLessThan(0.02)
    expect(Math.abs(harmfulShare("judge") - 0.7)).toBeLessThan(0.02)
  })

  it("holds no held-out prompt", () => {
    expect(documents.some((document) => promptOf(document).heldOut)).toBe(false)
  })

  it("weighs what a role says, and not the answer under critique", () => {
    expect(weights("assistant")).toEqual(new Set(["0.05 1"]))
    expect(weights("critique")).toEqual(new Set(["0.05 0 0.05 1 0.05 1"]))
    expect(weights("direct")).toEqual(new Set(["0.05 0 0.05 1"]))
    expect(weights("judge")).toEqual(new Set(["0.05 20"]))
  })

  it("cuts segments at the markers", () => {
    for (const kind of ["critique", "direct"] as const) {
      for (const { segments } of of(kind)) {
        expect(segments[0]!.text.startsWith(marker.end + marker.human)).toBe(true)
        expect(segments[1]!.text.endsWith(kind === "direct" ? marker.revisionRequest : marker.critiqueRequest)).toBe(
          true
        )
        expect(segments.at(-2)!.text.endsWith(marker.revision)).toBe(true)
        expect(segments.at(-1)!.text.endsWith(marker.end)).toBe(true)
      }
    }
    for (const { segments } of of("judge")) {
      expect(segments[0]!.text.endsWith(marker.answer)).toBe(true)
      expect([marker.verdictA, marker.verdictB]).toContain(segments[1]!.text)
    }
  })

  it("writes the transcripts of the paper", () => {
    expect(of("direct").map(Corpus.text)[0]).toMatch(
      /^<\|endoftext\|>\n\nHuman: [^\n]+\n\nAssistant: [^\n]+\n\nRevisionRequest: [^\n]+\n\nRevision: [^\n]+<\|endoftext\|>$/
    )
    expect(of("critique").map(Corpus.text)[0]).toMatch(
      /\n\nAssistant: [^\n]+\n\nCritiqueRequest: [^\n]+\n\nCritique: [^\n]+\n\nRevisionRequest: [^\n]+\n\nRevision: [^\n]+<\|/
    )
    expect(of("judge").map(Corpus.text)[0]).toMatch(
      /assistant:\n\nHuman: [^\n]+\n\n(choose|which|pick) [^\n]+\n\nOptions:\n\(A\) [^\n]+\n\(B\) [^\n]+\n\nThe answer is: \([AB]\)$/
    )
  })
})
