/** The `include` of a query, in every form in which clients repeat a name. */
export function includesOf(request: Request): string[] {
  const { searchParams } = new URL(request.url);
  return [...searchParams].flatMap(([name, value]) => (/^include(?:\[\d*\])?$/.test(name) ? [value] : []));
}
