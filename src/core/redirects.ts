/** Where an authorization server sends people back to: what an admin registers there. */
export function redirectUrlOf({ publicUrl }: { publicUrl: string }, redirectId: string): string {
  return `${publicUrl}/oauth/callback/${redirectId}`;
}
