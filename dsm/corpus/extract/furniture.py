"""Lines of a page that are its controls, not its content: buttons, counters, notices that stand inside the main text.

Only whole lines go, and only those made of nothing but such words, so that no sentence is ever cut.
"""

from __future__ import annotations

import re

_BUTTON = (
    r"share|cite|edit|follow|flag|report(?: (?:abuse|post|this))?|reply|like|dislike|quote|tweet|print|e-?mail"
    r"|permalink|improve this (?:question|answer)|ask question|bookmark|save|copy link"
    r"|facebook|twitter|pinterest|linkedin|reddit"
    r"|whatsapp|tumblr|google\+?|pin it|add a comment|log ?in|sign (?:in|up)|register|subscribe|menu|search|close"
    r"|show more|read more|more|next|previous|prev|top|home|delete|reopen|undelete"
    r"|jump to (?:navigation|search)|permanent link|thanks|upvote"
    r"|downvote"
)
_NOTICE = (
    r"up vote [\d,]+ down vote(?: (?:accepted|favorite)| [\d,]+)*|leave a (?:comment|reply)|post a comment"
    r"|skip to (?:main |the )?content|skip to (?:navigation|search|main)"
    r"|advertisements?|loading\.*|click to (?:share|print|email) .{0,60}|(?:share|like) this:?|like loading\.*"
    r"|back to top|(?:copyright )?(?:©|\(c\)) .{0,80}|copyright .{0,80}all rights reserved\.?|all rights reserved\.?"
    r"|follow .{3,40} on (?:facebook|twitter|google).{0,30}|(?:this site|we) uses? cookies.{0,160}"
    r"|results \d+ to \d+ of \d+|page \d+ of \d+|not the answer you're looking for\?.{0,90}"
    r"|分享|收藏|举报|回复|点赞|登录|注册|关注|上一篇.{0,40}"
    r"|下一篇.{0,40}|返回顶部|添加评论|赞同 ?\d*|转载|打印本页|关闭窗口"
)
_CONTROLS = rf"(?:{_BUTTON})(?:[ \t|·•,/]+(?:{_BUTTON}))*[ \t|·•:]*"
_LINE = re.compile(rf"^[ \t•]*(?:{_CONTROLS}|(?:{_NOTICE})[ \t]*)(?:\n|\Z)", re.IGNORECASE | re.MULTILINE)


def without_furniture(text: str) -> str:
    """The text without lines that are controls of the page."""
    return _LINE.sub("", text)
